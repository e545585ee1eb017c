"""Who is held to what when an exporter is dead: a cell to its share, the spool to dropping its
oldest, an exporter to its quota. What is given up is named, so that no receiver misses anything
unawares."""

import errno
import json
import subprocess

from support.faults import Injection, Ledger, dropped_ranges, last_delivered, last_sequences
from support.flows import Account, Load, caught_up, play, to_file, to_sink, total, until
from support.gateway import BINARY, Gateway
from support.guest import Guest
from support.http_sink import HttpSink
from support.ports import steady_port


def held(gateway, exporter):
    return gateway.metric("cellgate_exporter_backlog_bytes", exporter=exporter)


def events_of(account, kind):
    """The data of the gateway's own events of one kind, in their order."""
    found = []
    for text in account.texts().values():
        event = json.loads(text)
        if event["type"].endswith(kind):
            found.append(event["data"])
    return found


def verify_gaps(texts):
    """`cellgate verify --gaps` over what a receiver has; what it complains of."""
    done = subprocess.run(
        [BINARY, "verify", "--keys", "/dev/stdin", "--gaps", texts], input="{}",
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return [line for line in done.stdout.splitlines() if line.split("\t")[0] in ("missing", "repeated")]


def write_lines(path, account):
    path.write_text("".join(f"{text}\n" for text in account.texts().values()))
    return str(path)


def test_a_cell_that_holds_its_share_waits_alone_and_loses_nothing(tmp_path):
    port = steady_port()
    share = 1 << 20
    config = {
        "state_dir": str(tmp_path / "state"),
        "spool": {"dir": str(tmp_path / "spool"), "max_bytes": "16MiB"},  # the share is 1 MiB
        "keepalive": {"window": "50ms"},
    }
    frames = 6000
    with Gateway(
        tmp_path, exporters=[to_sink("dead", f"http://127.0.0.1:{port}/")], cells=2, config=config
    ) as gateway:
        load = ["--cells", 1, "--frames", frames, "--timeout", "120s"]
        with Load(gateway.base("0"), *load) as load, Guest(gateway.base(1)) as quiet:
            until(
                lambda: total(gateway, "cellgate_ingress_paused_total", reason="share"),
                lambda: "the cell was never held to its share",
            )
            assert gateway.get("/readyz")[0] == 200
            # The other cell goes on.
            received = gateway.metric("cellgate_frames_received_total")
            quiet.send_many(50)
            until(
                lambda: gateway.metric("cellgate_frames_received_total") == received + 50,
                lambda: "the other cell is not heard",
            )
            until(
                lambda: json.loads(gateway.get("/v1/cells/cell-0")[1])["state"] == "paused",
                lambda: gateway.get("/v1/cells/cell-0")[1],
            )
            assert json.loads(gateway.get("/v1/cells/cell-1")[1])["state"] != "paused"
            until(  # two streams opened, and the pause
                lambda: total(gateway, "cellgate_events_appended_total", kind="gateway") >= 3,
                lambda: "no event says that the cell is paused",
            )
            assert load.running()
            assert share * 0.9 <= held(gateway, "dead") <= share * 1.25
            assert total(gateway, "cellgate_spool_append_failures_total") == 0
            with HttpSink(port=port) as revived:
                status, summary = load.end()
                assert (status, summary["lost"]) == (0, 0)
                quiet.close()
                caught_up(gateway, "dead")
                last = last_sequences(gateway, ["cell-0", "cell-1"])
                assert gateway.stop() == 0
                account = Account.of_accepted(revived)
    last = {run: max(end, last_delivered(account)[run]) for run, end in last.items()}
    Ledger("a cell held to its share", account, last=last, sent=frames + 50).settle()
    paused = events_of(account, ".paused")
    assert paused and all(data["reason"] == "share" for data in paused)
    assert {data["cellId"] for data in paused} == {"cell-0"}
    # A pause is no silence: none is told before the end of the pause is.
    def numbers(kind):
        found = [d["host"]["sequence"] for d in events_of(account, kind) if d["cellId"] == "cell-0"]
        return sorted(found)

    begun, ended = numbers(".paused"), numbers(".unpaused")
    assert len(begun) == len(ended)
    for silenced in numbers(".agent_silenced"):
        assert not any(first < silenced < last for first, last in zip(begun, ended))


def test_what_drop_oldest_gives_up_is_named_and_verify_accepts_it(tmp_path):
    port = steady_port()
    cells = 3
    config = {
        "state_dir": str(tmp_path / "state"),
        "spool": {"dir": str(tmp_path / "spool"), "max_bytes": "4MiB", "when_full": "drop_oldest"},
    }
    exporters = [to_sink("dead", f"http://127.0.0.1:{port}/")]
    with Gateway(tmp_path, exporters=exporters, cells=cells, config=config) as gateway:
        play(gateway.base("%d"), "--cells", cells, "--frames", 5000, "--timeout", "120s")
        until(
            lambda: total(gateway, "cellgate_frames_received_total") == cells * 5000,
            lambda: "the frames never all arrived",
        )
        dropped = total(gateway, "cellgate_events_dropped_total", reason="overflow")
        assert dropped > 5000
        gateway.kill()  # what was not told before is told after
        gateway.start()
        with HttpSink(port=port) as revived:
            until(
                lambda: all(
                    any(run == (f"cell-{i}", f"run-{i}") for run, _, _ in ranges_of(revived))
                    for i in range(cells)
                ),
                lambda: "not every run tells what it has lost",
            )
            caught_up(gateway, "dead")
            last = last_sequences(gateway, [f"cell-{i}" for i in range(cells)])
            assert gateway.stop() == 0
            account = Account.of_accepted(revived)
    last = {run: max(end, last_delivered(account)[run]) for run, end in last.items()}
    ledger = Ledger("drop_oldest with a dead receiver", account, last=last, sent=cells * 5000)
    ledger.settle()
    assert ledger.by_name > 5000
    assert verify_gaps(write_lines(tmp_path / "got.jsonl", account)) == []
    drops = [d["drops"] for d in events_of(account, ".telemetry.dropped")]
    assert all(set(d) == {"overflow"} for d in drops)


def ranges_of(sink):
    return [r for event in sink.accepted for r in dropped_ranges(json.dumps(event))]


def test_a_dead_exporter_loses_beyond_its_quota_and_the_others_lose_nothing(tmp_path):
    port = steady_port()
    cells = 2
    path = tmp_path / "events.jsonl"
    config = {
        "state_dir": str(tmp_path / "state"),
        "spool": {"dir": str(tmp_path / "spool"), "max_bytes": "16MiB", "cell_share": "16MiB"},
    }
    exporters = [
        to_sink("dead", f"http://127.0.0.1:{port}/", quota="25%"),
        to_file("local", path),
    ]
    with Gateway(tmp_path, exporters=exporters, cells=cells, config=config) as gateway:
        play(gateway.base("%d"), "--cells", cells, "--frames", 8000, "--timeout", "120s")
        caught_up(gateway, "local", timeout=120)
        lost = total(gateway, "cellgate_exporter_dropped_events_total", exporter="dead")
        assert lost > 4000
        assert total(gateway, "cellgate_exporter_dropped_events_total", exporter="local") == 0
        assert total(gateway, "cellgate_events_dropped_total") == 0
        until(  # segments that both have passed go with the next group commit
            lambda: gateway.metric("cellgate_spool_bytes") <= 5 << 20,
            lambda: f"the spool has {gateway.metric('cellgate_spool_bytes')} bytes",
        )
        gateway.wait_log("event=exporter_over_quota exporter=dead")
        shown = {e["name"]: e for e in json.loads(gateway.get("/v1/exporters")[1])["exporters"]}
        assert shown["dead"]["quota_bytes"] == 4 << 20 and shown["dead"]["dropped_events"] == lost
        assert shown["local"]["quota_bytes"] is None and shown["local"]["dropped_events"] == 0
        with HttpSink(port=port) as revived:
            caught_up(gateway, "dead")
            until(
                lambda: {run for run, _, _ in ranges_of(revived)}
                >= {(f"cell-{i}", f"run-{i}") for i in range(cells)},
                lambda: "not every run tells what it has lost",
            )
            caught_up(gateway, "dead")
            caught_up(gateway, "local")
            last = last_sequences(gateway, [f"cell-{i}" for i in range(cells)])
            assert gateway.stop() == 0
            account = Account.of_accepted(revived)
    of_local = Account.of_files(path)
    of_local.assert_whole()
    last = {run: max(end, last_delivered(of_local)[run]) for run, end in last.items()}
    Ledger("a dead exporter over its quota", account, last=last, sent=cells * 8000).settle()
    assert verify_gaps(write_lines(tmp_path / "got.jsonl", account)) == []


def test_a_failed_sync_is_got_over_while_nobody_speaks(tmp_path):
    injection = Injection(tmp_path)
    config = {
        "state_dir": str(tmp_path / "state"),
        "spool": {"dir": str(tmp_path / "spool"), "sync": "10ms"},
    }
    exporters = [to_file("local", tmp_path / "events.jsonl")]
    with Gateway(
        tmp_path, exporters=exporters, cells=1, config=config, env=injection.env
    ) as gateway:
        with Guest(gateway.base(0)) as guest:
            injection.set(sync=errno.EIO)
            guest.send_many(3)
            until(
                lambda: gateway.get("/readyz")[0] == 503, lambda: gateway.get("/readyz?verbose")[1]
            )
            assert "[-] spool: " in gateway.get("/readyz?verbose")[1]
            gateway.wait_log("event=spool_degraded")
            injection.set(sync=0)
            until(
                lambda: gateway.get("/readyz")[0] == 200, lambda: gateway.get("/readyz?verbose")[1]
            )
            gateway.wait_log("event=spool_recovered")
        assert gateway.stop() == 0


def test_readiness_says_beforehand_that_the_spool_fills_up(tmp_path):
    port = steady_port()
    config = {
        "state_dir": str(tmp_path / "state"),
        "spool": {"dir": str(tmp_path / "spool"), "max_bytes": "8MiB", "cell_share": "8MiB"},
    }
    exporters = [to_sink("dead", f"http://127.0.0.1:{port}/")]
    with Gateway(tmp_path, exporters=exporters, cells=1, config=config) as gateway:
        assert "[+] spool: ok" in gateway.get("/readyz?verbose")[1]
        play(gateway.base(0), "--frames", 4000, "--timeout", "120s")

        def says_so():
            status, text = gateway.get("/readyz?verbose")
            assert status == 200
            return "[?] spool: full in about" in text

        until(says_so, lambda: gateway.get("/readyz?verbose")[1])
        gateway.wait_log("event=spool_filling")
        assert gateway.metric("cellgate_spool_seconds_until_full") < 3600
