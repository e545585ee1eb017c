"""100,000 signed events to collectors over OTLP, held against what a file got from the same gateway."""

import datetime
import json
import os
import subprocess

import pytest

from support.flows import Account, caught_up, play, to_file
from support.gateway import BINARY, QUICK_RETRY, Gateway
from support.otlp import GrpcCollector, OtlpHttpCollector
from support.tls import Authority

FRAMES = 2_500 if os.environ.get("CELLGATE_SLOW") == "1" else 25_000
CELLS = 4
BUILT_IN = subprocess.run([BINARY, "version"], capture_output=True, text=True).stdout
pytestmark = pytest.mark.skipif(
    not all(f"exporter {name}\n" in BUILT_IN for name in ("otlp-http", "otlp-grpc")),
    reason="an exporter is left out of this build",
)


def keys(directory):
    subprocess.run([BINARY, "keygen", "--kid", "flow", "--out", str(directory)], check=True,
                   stdout=subprocess.DEVNULL)  # fmt: skip
    return directory / "flow.key", directory / "flow.keys.json"


def to_collector(name, kind, url, **more):
    return {"name": name, "type": kind, "url": url, "retry": QUICK_RETRY, "timeout": "60s",
            "batch": {"linger": "5ms"}, **more}  # fmt: skip


def expected(text):
    """What a record says beside its body, by an independent reading of the event."""
    event = json.loads(text)["data"]["event"]
    data = event["data"]
    host, guest = data["host"], data.get("guest")
    attributes = {
        "cloudevents.event_id": event["id"],
        "cloudevents.event_source": event["source"],
        "cloudevents.event_spec_version": event["specversion"],
        "cloudevents.event_type": event["type"],
        "cellos.cell.id": data["cellId"],
        "cellos.run.id": data["runId"],
        "cellos.spec.signature_hash": host["specSignatureHash"],
        "cellos.sequence": host["sequence"],
    }
    if guest is not None:
        attributes |= {
            "cellos.probe_source": guest["probeSource"],
            "process.pid": guest["guestPid"],
            "process.command": guest["guestComm"],
        }
    kind = event["type"].rpartition(".guest.")[2]
    warns = kind in ("telemetry.dropped", "paused") or (
        kind == "agent_silenced" and data["connectionState"] != "open")
    return attributes, (13, "WARN") if warns else (9, "INFO"), nanoseconds(event["time"])


def nanoseconds(time):
    """RFC 3339 with nine digits, without a detour over floating point."""
    whole, fraction = time.rstrip("Z").split(".")
    seconds = datetime.datetime.fromisoformat(whole).replace(tzinfo=datetime.timezone.utc).timestamp()
    return int(seconds) * 10**9 + int(fraction)


def verify(directory, name, texts, key_file):
    path = directory / f"{name}.jsonl"
    path.write_text("".join(text + "\n" for text in texts))
    done = subprocess.run([BINARY, "verify", "--keys", str(key_file), "--gaps", str(path)],
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ok\t") == len(texts)


def check_records(records, texts):
    assert len(records) == len(texts)
    for record, text in zip(records, texts):
        attributes, severity, time_ns = expected(text)
        assert record.text == text  # the order is the spool's, for everyone
        assert record.attributes == attributes and record.severity == severity
        assert record.time_ns == record.observed_ns == time_ns
        assert record.resource["service.name"] == record.scope[0] == "cellgate"
        assert record.resource["host.name"] == "node-1"


def run(directory, collector, frames, **exporter):
    """Guests play to a gateway with a file and one collector."""
    key, public = keys(directory)
    exporters = [
        to_file("file", directory / "events.jsonl"),
        to_collector("collector", url=collector.url, **exporter),
    ]
    config = {
        "spool": {"dir": str(directory / "spool")},
        "signing": {"mode": "ed25519", "kid": "flow", "key_file": str(key)},
    }
    with Gateway(directory, exporters=exporters, cells=CELLS, config=config) as gateway:
        play(gateway.base("%d"), "--cells", CELLS, "--frames", frames)
        for name in ("file", "collector"):
            caught_up(gateway, name, timeout=600)
        assert gateway.stop() == 0
    file = Account.of_files(directory / "events.jsonl")
    file.assert_whole()
    assert len(file.guests()) == CELLS * frames
    check_records(collector.records, [arrival.text for arrival in file.arrivals])
    verify(directory, "received", [record.text for record in collector.records], public)


def test_grpc_over_tls_gets_what_the_file_gets(tmp_path):
    authority = Authority(tmp_path)
    cert, key, _ = authority.issue("server")
    with GrpcCollector(cert_file=cert, key_file=key) as collector:
        run(tmp_path, collector, FRAMES, kind="otlp-grpc", tls={"ca_file": authority.ca_file})
        assert len({call.peer for call in collector.calls}) == 1


def test_http_gets_what_the_file_gets(tmp_path):
    with OtlpHttpCollector() as collector:
        run(tmp_path, collector, FRAMES, kind="otlp-http")
        assert collector.connections == 1 and collector.errors == []


def test_compressed_grpc_in_clear_text_gets_what_the_file_gets(tmp_path):
    with GrpcCollector() as collector:
        run(tmp_path, collector, FRAMES // 10, kind="otlp-grpc", compression="gzip")


def test_compressed_json_over_http_gets_what_the_file_gets(tmp_path):
    with OtlpHttpCollector() as collector:
        run(tmp_path, collector, FRAMES // 10, kind="otlp-http", encoding="json", compression="zstd")


def test_warnings_are_warnings(tmp_path):
    """The events of the gateway that say that evidence may be missing stand out."""
    keepalive = {"window": "50ms", "boot_grace": "0s"}
    with GrpcCollector() as collector:
        exporters = [to_collector("central", "otlp-grpc", collector.url)]
        with Gateway(tmp_path, exporters=exporters, config={"keepalive": keepalive}):
            collector.wait(lambda: any(r.severity == (13, "WARN") for r in collector.records))
        kinds = {r.attributes["cloudevents.event_type"]: r.severity for r in collector.records}
        assert kinds["dev.cellos.events.cell.observability.v1.guest.agent_silenced"] == (13, "WARN")
