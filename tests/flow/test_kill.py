"""A gateway that is killed again and again under load loses nothing that reached its spool."""

import random
import re

from support.flows import Account, Load, caught_up, texts_of_body, to_file, to_sink
from support.gateway import Gateway
from support.http_sink import HttpSink

ROUNDS = 10
CELLS = 3
SEED = 20261123


def lives(sink):
    """The events of each life of the gateway: a connection is of one life, its requests in order."""
    of_connection = {}
    for request in sink.requests:
        texts = of_connection.setdefault(request.connection, [])
        texts.extend(texts_of_body(request.body))
    return [Account(of_connection[ordinal]) for ordinal in sorted(of_connection)]


def assert_repeats_only_at_restarts(sink):
    """Within a life each run goes up by one; the next life begins at or before where the last ended."""
    last = {}
    for life in lives(sink):
        assert life.repeated == 0
        for run in life.runs():
            sequences = life.sequences(run)
            assert sequences == list(range(sequences[0], sequences[0] + len(sequences)))
            assert sequences[0] <= last.get(run, 0) + 1
            last[run] = max(last.get(run, 0), sequences[-1])


def test_every_event_that_reached_the_spool_arrives(tmp_path):
    rng = random.Random(SEED)
    path = tmp_path / "events.jsonl"
    config = {
        "state_dir": str(tmp_path / "state"),
        # Small segments, so that some are passed, recycled and recovered on the way.
        "spool": {"dir": str(tmp_path / "spool"), "max_bytes": "16MiB", "sync": "20ms"},
    }
    sent = 0
    with HttpSink() as sink:
        exporters = [
            to_sink("central", sink.url, batch={"linger": "1ms", "events": 100}),
            to_file("local", path, batch={"linger": "1ms", "events": 100}),
        ]
        with Gateway(tmp_path, exporters=exporters, cells=CELLS, config=config) as gateway:
            for round_number in range(ROUNDS):
                load = ["--cells", CELLS, "--connections", 2, "--frames", 1_000_000, "--rate", 10_000]
                with Load(gateway.base("%d"), *load) as load:
                    sink.wait_accepted(len(sink.accepted) + rng.randrange(1, 2500))
                    assert gateway.process.poll() is None
                    gateway.kill()
                    status, summary = load.end()
                    assert status == 1 and summary["lost"] > 0
                    sent += summary["sent"]
                gateway.start()  # which takes over the sockets that were left behind
            # Indices begin at 1, so this is how many events the spool has had.
            spooled = int(re.search(r"next_index=(\d+)", gateway.wait_log("event=spool_open"))[1]) - 1
            for exporter in ("central", "local"):
                caught_up(gateway, exporter)
            assert gateway.stop() == 0
        delivered, kept = Account.of_sink(sink), Account.of_files(path)
        assert_repeats_only_at_restarts(sink)
    for account in (delivered, kept):
        account.assert_whole()
        assert len(account.by_id) >= spooled
        assert ROUNDS <= len(account.guests()) <= sent
    assert delivered.texts() == kept.texts()
    assert len({a.connection for a in kept.guests()}) > ROUNDS  # ordinals went on as well
