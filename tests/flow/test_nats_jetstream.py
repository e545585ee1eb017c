"""The exporter `nats-jetstream` against a real nats-server: nothing lost, nothing kept twice, and every
kind of trouble held until somebody mends it."""

import contextlib
import json
import os
import socket
import ssl
import subprocess

from support.flows import Account, Load, caught_up, play, total, until
from support.gateway import BINARY, QUICK_RETRY, Gateway
from support.guest import Guest
from support.nats_credentials import Operator
from support.nats_server import NatsServer
from support.tls import Authority

EVENTS = 10_000 if os.environ.get("CELLGATE_SLOW") == "1" else 100_000
CELLS = 4
PREFIX = "dev.cellos.events.cell.observability.v1.guest"


def to_nats(server, **more):
    return {
        "name": "queue", "type": "nats-jetstream", "servers": server if isinstance(server, str) else server.url,
        "retry": QUICK_RETRY, "batch": {"linger": "5ms"}, **more,
    }  # fmt: skip


def delivered(gateway):
    return total(gateway, "cellgate_exporter_delivered_events_total", exporter="queue")


def account(server, stream="EVENTS"):
    return Account(data.decode() for _, _, data in server.messages(stream))


def holds(gateway, text):
    """Waits for the log line that says that somebody has to act."""
    line = gateway.wait_log("event=exporter_holding")
    assert text in line, line


def test_nothing_is_lost_and_nothing_kept_twice_over_killed_servers(tmp_path):
    with NatsServer(tmp_path) as server:
        server.add_stream("EVENTS", ["cellgate.>"])
        config = {"spool": {"dir": str(tmp_path / "spool")}}
        with Gateway(tmp_path, exporters=[to_nats(server)], cells=CELLS, config=config) as gateway:
            frames = EVENTS // CELLS
            with Load(gateway.base("%d"), "--cells", CELLS, "--frames", frames) as load:
                for part in (1, 2, 3):
                    until(lambda: delivered(gateway) >= EVENTS * part // 5, lambda: delivered(gateway), 300)
                    server.kill()
                    server.start()
                status, summary = load.end(300)
                assert status == 0 and summary["lost"] == 0
            caught_up(gateway, "queue", 300)
            assert gateway.stop() == 0
        kept = account(server)
    print(f"JetStream: {len(kept.by_id)} events kept, {kept.repeated} of them more than once")
    kept.assert_in_order()
    assert kept.repeated == 0
    assert len(kept.guests()) == CELLS * frames


def test_a_message_bears_the_attributes_of_the_event_inside_the_envelope(tmp_path):
    subprocess.run([BINARY, "keygen", "--kid", "k", "--out", str(tmp_path)], check=True, capture_output=True)
    signing = {"signing": {"mode": "ed25519", "kid": "k", "key_file": str(tmp_path / "k.key")}}
    with NatsServer(tmp_path) as server:
        server.add_stream("EVENTS", ["t.>"])
        exporter = to_nats(server, subject="t.{run_id}.x-{cell_id}.{type}", stream="EVENTS")
        with Gateway(tmp_path, exporters=[exporter], config=signing) as gateway:
            play(gateway.base(0), "--frames", 1)
            caught_up(gateway, "queue")
            assert gateway.stop() == 0
        messages = server.messages("EVENTS")
    assert len(messages) == 3  # opened, the frame, closed
    for subject, headers, data in messages:
        event = json.loads(data)
        inner = event["data"]["event"]
        assert headers == {
            "Nats-Msg-Id": event["id"], "ce-id": inner["id"], "ce-source": inner["source"],
            "ce-type": inner["type"], "ce-specversion": "1.0", "Nats-Expected-Stream": "EVENTS",
            "content-type": "application/cloudevents+json",
        }  # fmt: skip
        assert inner["type"].startswith(PREFIX)
        assert subject == f"t.run-0.x-cell-0.{inner['type']}"
    done = subprocess.run(
        [BINARY, "verify", "--keys", str(tmp_path / "k.keys.json"), "--gaps"],
        input=b"\n".join(data for _, _, data in messages) + b"\n", capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_events_wait_for_a_stream_that_somebody_has_yet_to_make(tmp_path):
    with NatsServer(tmp_path) as server:
        with Gateway(tmp_path, exporters=[to_nats(server)]) as gateway:
            play(gateway.base(0), "--frames", 1500)
            holds(gateway, "no stream takes the subject")
            server.add_stream("EVENTS", ["cellgate.>"])
            caught_up(gateway, "queue")
            assert gateway.stop() == 0
        account(server).assert_in_order()


def test_it_makes_the_stream_if_told_to_and_leaves_one_that_exists_as_it_is(tmp_path):
    create = {"enabled": True, "max_age": "24h", "duplicate_window": "5m", "max_bytes": "1GiB"}
    with NatsServer(tmp_path) as server:
        exporter = to_nats(server, stream="MADE", subject="c.{cell_id}.{type}", create_stream=create)
        config = {"spool": {"dir": str(tmp_path / "spool")}}
        with Gateway(tmp_path, exporters=[exporter], config=config) as gateway:
            play(gateway.base(0), "--frames", 10)
            caught_up(gateway, "queue")
            made = server.stream("MADE").config
            assert (made.subjects, made.max_age, made.duplicate_window) == (["c.>"], 86400, 300)
            assert (made.max_bytes, made.storage, made.num_replicas) == (1 << 30, "file", 1)
            assert gateway.stop() == 0
            exporter["create_stream"]["max_age"] = "1h"
            gateway.start()
            play(gateway.base(0), "--frames", 10)
            caught_up(gateway, "queue")
            assert server.stream("MADE").config.max_age == 86400
            assert gateway.stop() == 0
        assert len(account(server, "MADE").guests()) == 20


def test_a_stream_of_another_name_is_refused(tmp_path):
    with NatsServer(tmp_path) as server:
        server.add_stream("OTHER", ["cellgate.>"])
        with Gateway(tmp_path, exporters=[to_nats(server, stream="EVENTS")]) as gateway:
            play(gateway.base(0), "--frames", 1)
            holds(gateway, "expected stream does not match")
        assert server.stream("OTHER").state.messages == 0


def test_an_event_larger_than_the_server_takes_is_set_aside_alone(tmp_path):
    with NatsServer(tmp_path, config="max_payload: 1500") as server:
        server.add_stream("EVENTS", ["cellgate.>"])
        state = {"state_dir": str(tmp_path / "state")}
        with Gateway(tmp_path, exporters=[to_nats(server)], config=state) as gateway:
            with Guest(gateway.base(0)) as guest:
                guest.send_many(50)
                guest.send(guest_comm="x" * 1000, guest_pid=77)
                guest.send_many(50)
            until(
                lambda: total(gateway, "cellgate_exporter_dead_lettered_events_total", exporter="queue"),
                lambda: gateway.log(),
            )
            caught_up(gateway, "queue")
            assert gateway.stop() == 0
        kept = account(server)
    assert len(kept.guests()) == 100 and kept.repeated == 0
    letters = (tmp_path / "state/dead-letters/queue.jsonl").read_text().splitlines()
    assert len(letters) == 1 and "x" * 1000 in letters[0]


def secret(path, text):
    path.write_text(text + "\n")
    path.chmod(0o600)
    return str(path)


def test_wrong_credentials_hold_until_the_file_has_the_right_ones(tmp_path):
    users = 'authorization { user: "gw", password: "right" }'
    client = {"user": "gw", "password": "right"}
    with NatsServer(tmp_path, config=users, client=client) as server:
        server.add_stream("EVENTS", ["cellgate.>"])
        password = secret(tmp_path / "password", "wrong")
        exporter = to_nats(server, user="gw", password_file=password)
        with Gateway(tmp_path, exporters=[exporter]) as gateway:
            play(gateway.base(0), "--frames", 10)
            holds(gateway, "Authorization Violation")
            secret(tmp_path / "password", "right")
            caught_up(gateway, "queue")
            assert gateway.stop() == 0
            assert "wrong" not in gateway.log()
        account(server).assert_in_order()


def test_a_token_is_read_from_its_file(tmp_path):
    token = 'authorization { token: "sesame" }'
    with NatsServer(tmp_path, config=token, client={"token": "sesame"}) as server:
        server.add_stream("EVENTS", ["cellgate.>"])
        exporter = to_nats(server, token_file=secret(tmp_path / "token", "sesame"))
        with Gateway(tmp_path, exporters=[exporter]) as gateway:
            play(gateway.base(0), "--frames", 10)
            caught_up(gateway, "queue")
            assert gateway.stop() == 0


def test_a_credentials_file_opens_its_account_and_another_operators_does_not(tmp_path):
    operator = Operator()
    credentials = tmp_path / "gateway.creds"
    Operator().write_user(credentials)
    client = {"user_credentials": operator.write_user(tmp_path / "reader.creds")}
    with NatsServer(tmp_path, config=operator.server_config(), client=client) as server:
        server.add_stream("EVENTS", ["cellgate.>"])
        with Gateway(tmp_path, exporters=[to_nats(server, credentials_file=str(credentials))]) as gateway:
            play(gateway.base(0), "--frames", 10)
            holds(gateway, "Authorization Violation")
            operator.write_user(credentials)
            caught_up(gateway, "queue")
            assert gateway.stop() == 0
        account(server).assert_in_order()


def test_a_subject_that_it_may_not_publish_to_holds(tmp_path):
    users = (
        'authorization { users: [{user: "gw", password: "p", permissions: {publish: "elsewhere.>"}},'
        ' {user: "admin", password: "p"}] }'
    )
    with NatsServer(tmp_path, config=users, client={"user": "admin", "password": "p"}) as server:
        server.add_stream("EVENTS", ["cellgate.>"])
        exporter = to_nats(server, user="gw", password_file=secret(tmp_path / "password", "p"))
        with Gateway(tmp_path, exporters=[exporter]) as gateway:
            play(gateway.base(0), "--frames", 10)
            holds(gateway, "Permissions Violation")


def tls_server(directory, authority, address="127.0.0.1"):
    certificate, key, _ = authority.issue("server", address=address)
    config = (
        f'tls {{ cert_file: "{certificate}", key_file: "{key}", ca_file: "{authority.ca_file}", verify: true }}'
    )
    context = ssl.create_default_context(cafile=authority.ca_file)
    own, own_key, _ = authority.issue("reader", client=True)
    context.load_cert_chain(own, own_key)
    return NatsServer(directory, config=config, scheme="tls", client={"tls": context})


def test_over_tls_both_sides_show_certificates(tmp_path):
    authority = Authority(tmp_path)
    certificate, key, end = authority.issue("gateway", client=True)
    with tls_server(tmp_path, authority) as server:
        server.add_stream("EVENTS", ["cellgate.>"])
        tls = {"ca_file": authority.ca_file, "cert_file": certificate, "key_file": key}
        with Gateway(tmp_path, exporters=[to_nats(server, tls=tls)]) as gateway:
            play(gateway.base(0), "--frames", 2000)
            caught_up(gateway, "queue")
            expiry = gateway.metric("cellgate_tls_certificate_expiry_timestamp_seconds", exporter="queue")
            assert expiry == end
            assert gateway.stop() == 0
        account(server).assert_in_order()


def test_an_authority_that_it_does_not_know_holds(tmp_path):
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other", "another authority")
    authority = Authority(tmp_path)
    certificate, key, _ = authority.issue("gateway", client=True)
    with tls_server(tmp_path, authority) as server:
        tls = {"ca_file": other.ca_file, "cert_file": certificate, "key_file": key}
        with Gateway(tmp_path, exporters=[to_nats(server, tls=tls)]) as gateway:
            play(gateway.base(0), "--frames", 1)
            holds(gateway, "unable to get local issuer certificate")


def test_a_certificate_of_another_server_holds(tmp_path):
    authority = Authority(tmp_path)
    certificate, key, _ = authority.issue("gateway", client=True)
    with tls_server(tmp_path, authority, address="127.0.0.2") as server:
        tls = {"ca_file": authority.ca_file, "cert_file": certificate, "key_file": key}
        with Gateway(tmp_path, exporters=[to_nats(server, tls=tls)]) as gateway:
            play(gateway.base(0), "--frames", 1)
            holds(gateway, "mismatch")


def test_a_server_without_tls_holds_where_tls_is_wanted(tmp_path):
    with NatsServer(tmp_path) as server:
        exporter = to_nats(f"tls://127.0.0.1:{server.port}")
        with Gateway(tmp_path, exporters=[exporter]) as gateway:
            play(gateway.base(0), "--frames", 1)
            holds(gateway, "not available")


def test_a_host_that_does_not_exist_is_named(tmp_path):
    # Whether "no such name" (holding) or "no resolver" (backing off) comes depends on the machine.
    with Gateway(tmp_path, exporters=[to_nats("nats://nowhere.invalid")]) as gateway:
        play(gateway.base(0), "--frames", 1)
        assert "event=exporter_" in gateway.wait_log("nowhere.invalid")


def test_a_server_that_stands_still_does_not_hold_up_a_stop(tmp_path):
    with NatsServer(tmp_path) as server:
        server.add_stream("EVENTS", ["cellgate.>"])
        quick = {"shutdown": {"drain": "0s"}}
        with Gateway(tmp_path, exporters=[to_nats(server, timeout="1h")], config=quick) as gateway:
            play(gateway.base(0), "--frames", 10)
            caught_up(gateway, "queue")
            server.stand_still()
            play(gateway.base(0), "--frames", 5000)
            assert gateway.stop() == 0


def test_a_handshake_that_never_ends_does_not_hold_up_a_stop(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        server = f"tls://127.0.0.1:{mute.getsockname()[1]}"
        quick = {"shutdown": {"drain": "0s"}}
        exporter = to_nats(server, connect_timeout="10m")
        with Gateway(tmp_path, exporters=[exporter], config=quick) as gateway:
            play(gateway.base(0), "--frames", 1)
            mute.settimeout(60)
            peer, _ = mute.accept()
            with peer:
                peer.settimeout(60)
                peer.sendall(b'INFO {"server_id":"x","version":"2.9.0","tls_required":true,"max_payload":1048576}\r\n')
                assert peer.recv(1) == b"\x16"  # the first byte of a handshake
                assert gateway.stop() == 0


def test_a_handshake_that_never_ends_is_given_up(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        server = f"tls://127.0.0.1:{mute.getsockname()[1]}"
        with Gateway(tmp_path, exporters=[to_nats(server, connect_timeout="50ms")]) as gateway:
            play(gateway.base(0), "--frames", 1)
            mute.settimeout(60)
            for _ in range(3):
                peer, _ = mute.accept()
                with peer, contextlib.suppress(ConnectionError):
                    peer.settimeout(60)
                    peer.sendall(b'INFO {"server_id":"x","version":"2.9.0","tls_required":true}\r\n')
                    while peer.recv(4096):
                        pass


def test_an_idle_connection_that_the_server_closed_is_made_anew_unnoticed(tmp_path):
    with NatsServer(tmp_path) as server:
        server.add_stream("EVENTS", ["cellgate.>"])
        with Gateway(tmp_path, exporters=[to_nats(server)]) as gateway:
            play(gateway.base(0), "--frames", 10)
            caught_up(gateway, "queue")
            server.kill()
            server.start()
            play(gateway.base(0), "--frames", 10)
            caught_up(gateway, "queue")
            assert gateway.metric("cellgate_exporter_requests_total", exporter="queue", outcome="backoff") == 0
            assert gateway.stop() == 0
        account(server).assert_in_order()
