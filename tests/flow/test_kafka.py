"""The exporter `kafka` against a real broker where there is one (support/kafka.py): nothing lost and
every cell in order over killed brokers, and every kind of trouble held until somebody mends it."""

import os
import pathlib

import pytest

from support.flows import Account, Load, caught_up, play, total, until
from support.gateway import QUICK_RETRY, Gateway
from support.guest import Guest
from support.kafka import HAS_BROKER, Broker, Mock, broker
from support.tls import Authority

# The mock keeps 5 MiB of a partition.
EVENTS = 4_000 if not HAS_BROKER or os.environ.get("CELLGATE_SLOW") == "1" else 40_000
CELLS = 4
PARTITIONS = 4

needs_broker = pytest.mark.skipif(not HAS_BROKER, reason="no Kafka broker here: the mock cannot do this")


def to_kafka(address, **more):
    return {
        "name": "queue", "type": "kafka", "brokers": address, "topic": "events", "retry": QUICK_RETRY,
        "batch": {"linger": "5ms"}, **more,
    }  # fmt: skip


def delivered(gateway):
    return total(gateway, "cellgate_exporter_delivered_events_total", exporter="queue")


def account(queue, **more):
    return Account(value.decode() for _, _, value in queue.messages("events", PARTITIONS, **more))


def assert_first_arrivals_in_order(kept):
    """What came again is known by its number, so that its place does not matter."""
    expected = {}
    for arrival in kept.by_id.values():
        expected[arrival.run] = expected.get(arrival.run, 0) + 1
        assert arrival.sequence == expected[arrival.run]


def holds(gateway, text):
    line = gateway.wait_log("event=exporter_holding")
    assert text in line, line


def test_nothing_is_lost_and_each_cell_stays_in_order_over_killed_brokers(tmp_path):
    with broker(tmp_path) as queue:
        queue.add_topic("events", PARTITIONS)
        config = {"spool": {"dir": str(tmp_path / "spool")}}
        exporter = to_kafka(queue.address, timeout="10m", batch={"linger": "5ms", "events": 500})
        with Gateway(tmp_path, exporters=[exporter], cells=CELLS, config=config) as gateway:
            frames = EVENTS // CELLS
            with Load(gateway.base("%d"), "--cells", CELLS, "--frames", frames) as load:
                for part in (1, 2):
                    until(lambda: delivered(gateway) >= EVENTS * part // 4, lambda: delivered(gateway), 300)
                    queue.kill()
                    queue.start()
                status, summary = load.end(300)
                assert status == 0 and summary["lost"] == 0
            caught_up(gateway, "queue", 300)
            assert gateway.stop() == 0
        kept = account(queue)
    name = "Apache Kafka" if HAS_BROKER else "librdkafka's mock cluster"
    print(f"{name}: {len(kept.by_id)} events kept, {kept.repeated} of them more than once")
    kept.assert_whole()
    assert_first_arrivals_in_order(kept)
    assert len(kept.guests()) == CELLS * frames


def test_a_message_is_the_event_keyed_by_its_cell(tmp_path):
    with broker(tmp_path) as queue:
        queue.add_topic("events", PARTITIONS)
        exporter = to_kafka(queue.address, properties={"compression.type": "lz4"})
        with Gateway(tmp_path, exporters=[exporter], cells=CELLS) as gateway:
            play(gateway.base("%d"), "--cells", CELLS, "--frames", 100)
            caught_up(gateway, "queue")
            assert gateway.stop() == 0
        messages = queue.messages("events", PARTITIONS)
    kept = Account(value.decode() for _, _, value in messages)
    kept.assert_in_order()
    for arrival, (key, headers, _) in zip(kept.arrivals, messages):
        assert key.decode() == arrival.run[0]
        assert headers == [("content-type", b"application/cloudevents+json")]


def test_events_wait_for_a_topic_that_somebody_has_yet_to_make(tmp_path):
    with broker(tmp_path) as queue:
        if isinstance(queue, Mock):
            queue.deny_topic("events")
        exporter = to_kafka(queue.address, properties={"topic.metadata.propagation.max.ms": "50"})
        with Gateway(tmp_path, exporters=[exporter]) as gateway:
            play(gateway.base(0), "--frames", 100)
            holds(gateway, "Unknown topic")  # says the broker, or the library that asked before
            assert delivered(gateway) == 0
            queue.add_topic("events", PARTITIONS)
            caught_up(gateway, "queue", 120)
            assert gateway.stop() == 0
        assert_first_arrivals_in_order(account(queue))


@needs_broker
def test_an_event_larger_than_the_topic_takes_is_set_aside_alone(tmp_path):
    with Broker(tmp_path) as queue:
        queue.add_topic("events", PARTITIONS, **{"max.message.bytes": "1400"})
        state = {"state_dir": str(tmp_path / "state")}
        with Gateway(tmp_path, exporters=[to_kafka(queue.address)], config=state) as gateway:
            with Guest(gateway.base(0)) as guest:
                guest.send_many(5)
                guest.send(guest_comm="x" * 1000)
                guest.send_many(5)
            until(
                lambda: total(gateway, "cellgate_exporter_dead_lettered_events_total", exporter="queue"),
                lambda: gateway.log(), 120,
            )  # fmt: skip
            caught_up(gateway, "queue", 120)
            assert gateway.stop() == 0
        assert len(account(queue).guests()) == 10
    letters = (tmp_path / "state/dead-letters/queue.jsonl").read_text().splitlines()
    assert len(letters) == 1 and "x" * 1000 in letters[0]


def secret(path, text):
    path.write_text(text + "\n")
    path.chmod(0o600)
    return str(path)


PLAIN = [
    "listener.name.given.sasl.enabled.mechanisms=PLAIN",
    "listener.name.given.plain.sasl.jaas.config="
    'org.apache.kafka.common.security.plain.PlainLoginModule required user_gw="right";',
]


@needs_broker
def test_wrong_credentials_hold_until_the_file_has_the_right_ones(tmp_path):
    login = {"security.protocol": "sasl_plaintext", "sasl.mechanism": "PLAIN", "sasl.username": "gw"}
    client = {**login, "sasl.password": "right"}
    with Broker(tmp_path, listener="SASL_PLAINTEXT", config=PLAIN, client=client) as queue:
        queue.add_topic("events", PARTITIONS)
        password = secret(tmp_path / "password", "wrong")
        exporter = to_kafka(
            queue.address, property_files={"sasl.password": password},
            properties={"sasl.mechanism": "PLAIN", "sasl.username": "gw"},
        )  # fmt: skip
        with Gateway(tmp_path, exporters=[exporter]) as gateway:
            play(gateway.base(0), "--frames", 10)
            holds(gateway, "Authentication failed")
            secret(tmp_path / "password", "right")
            caught_up(gateway, "queue", 120)
            assert gateway.stop() == 0
            assert "wrong" not in gateway.log()
        assert_first_arrivals_in_order(account(queue))


def tls_broker(directory, authority):
    certificate, key, _ = authority.issue("server")
    store = pathlib.Path(directory) / "store.pem"
    store.write_text(pathlib.Path(key).read_text() + pathlib.Path(certificate).read_text())
    own, own_key, _ = authority.issue("reader", client=True)
    client = {
        "security.protocol": "ssl", "ssl.ca.location": authority.ca_file,
        "ssl.certificate.location": own, "ssl.key.location": own_key,
    }  # fmt: skip
    given = "listener.name.given.ssl."
    config = [
        f"{given}keystore.type=PEM", f"{given}keystore.location={store}", f"{given}client.auth=required",
        f"{given}truststore.type=PEM", f"{given}truststore.location={authority.ca_file}",
    ]  # fmt: skip
    return Broker(directory, listener="SSL", config=config, client=client)


@needs_broker
def test_over_tls_both_sides_show_certificates_and_a_stranger_holds(tmp_path):
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other", "another authority")
    authority = Authority(tmp_path)
    certificate, key, end = authority.issue("gateway", client=True)
    with tls_broker(tmp_path, authority) as queue:
        queue.add_topic("events", PARTITIONS)
        tls = {"ca_file": other.ca_file, "cert_file": certificate, "key_file": key}
        exporter = to_kafka(queue.address, tls=tls)
        config = {"spool": {"dir": str(tmp_path / "spool")}, "shutdown": {"drain": "0s"}}
        with Gateway(tmp_path, exporters=[exporter], config=config) as gateway:
            play(gateway.base(0), "--frames", 1000)
            holds(gateway, "certificate verify failed")
            assert gateway.stop() == 0
            exporter["tls"]["ca_file"] = authority.ca_file
            gateway.start()
            caught_up(gateway, "queue", 120)
            expiry = gateway.metric("cellgate_tls_certificate_expiry_timestamp_seconds", exporter="queue")
            assert expiry == end
            assert gateway.stop() == 0
        assert len(account(queue).guests()) == 1000


def test_hosts_that_do_not_exist_are_named(tmp_path):
    # Whether "no such name" (holding) or "no resolver" (backing off) comes depends on the machine.
    with Gateway(tmp_path, exporters=[to_kafka("nowhere.invalid:9092", timeout="500ms")]) as gateway:
        play(gateway.base(0), "--frames", 1)
        assert "event=exporter_" in gateway.wait_log("nowhere.invalid")


def test_a_broker_that_stands_still_does_not_hold_up_a_stop(tmp_path):
    with broker(tmp_path) as queue:
        queue.add_topic("events", PARTITIONS)
        quick = {"shutdown": {"drain": "0s"}}
        with Gateway(tmp_path, exporters=[to_kafka(queue.address, timeout="1h")], config=quick) as gateway:
            play(gateway.base(0), "--frames", 10)
            caught_up(gateway, "queue")
            queue.stand_still()
            play(gateway.base(0), "--frames", 5000)
            assert gateway.stop() == 0


def test_a_broker_that_is_away_for_longer_than_the_timeout_costs_nothing(tmp_path):
    with broker(tmp_path) as queue:
        queue.add_topic("events", PARTITIONS)
        with Gateway(tmp_path, exporters=[to_kafka(queue.address, timeout="200ms")]) as gateway:
            queue.kill()
            play(gateway.base(0), "--frames", 1000)
            gateway.wait_log("event=exporter_backoff")
            queue.start()
            gateway.wait_log("event=exporter_recovered", 120)
            caught_up(gateway, "queue", 120)
            assert gateway.stop() == 0
        assert_first_arrivals_in_order(account(queue))
