"""A spool in memory that fills up: it pauses the guests, or gives up the oldest events and says so."""

import re

from support.flows import Account, Load, caught_up, play, to_sink, total, until
from support.gateway import Gateway
from support.http_sink import HttpSink
from support.ports import steady_port

CELLS = 2
FRAMES = 10_000  # of each cell; all of them take three times the spool
BATCH = 512


def start(directory, port, when_full):
    exporters = [to_sink("dead", f"http://127.0.0.1:{port}/", batch={"events": BATCH})]
    # A share as large as the spool: these tests are about all of it.
    config = {"spool": {"max_bytes": "4MiB", "when_full": when_full, "cell_share": "4MiB"}}
    return Gateway(directory, exporters=exporters, cells=CELLS, config=config)


def dropped(gateway):
    return total(gateway, "cellgate_events_dropped_total", reason="overflow")


def test_a_full_spool_pauses_the_guests_and_loses_nothing(tmp_path):
    port = steady_port()
    with start(tmp_path, port, "pause") as gateway:
        load = ["--cells", CELLS, "--frames", FRAMES, "--timeout", "60s"]
        with Load(gateway.base("%d"), *load) as load:
            until(
                lambda: total(gateway, "cellgate_spool_append_failures_total", reason="full"),
                lambda: "the spool never filled up",
            )
            assert load.running()
            assert total(gateway, "cellgate_events_appended_total") < CELLS * FRAMES
            assert gateway.metric("cellgate_spool_bytes") <= 4 << 20
            assert gateway.get("/livez")[0] == 200
            with HttpSink(port=port) as revived:
                status, summary = load.end()
                assert (status, summary["sent"], summary["lost"]) == (0, CELLS * FRAMES, 0)
                caught_up(gateway, "dead")
                assert dropped(gateway) == 0
                assert gateway.stop() == 0
                account = Account.of_sink(revived)
    account.assert_in_order()
    assert len(account.guests()) == CELLS * FRAMES


def test_a_full_spool_may_give_up_the_oldest_events_and_counts_them(tmp_path):
    port = steady_port()
    with start(tmp_path, port, "drop_oldest") as gateway:
        play(gateway.base("%d"), "--cells", CELLS, "--frames", FRAMES, "--timeout", "60s")
        until(
            lambda: total(gateway, "cellgate_frames_received_total") == CELLS * FRAMES,
            lambda: "the frames never all arrived",
        )
        assert dropped(gateway) > CELLS * FRAMES / 4
        with HttpSink(port=port) as revived:
            caught_up(gateway, "dead")

            lost = dropped(gateway)
            appended = total(gateway, "cellgate_events_appended_total")
            assert gateway.stop() == 0
            account = Account.of_sink(revived)
        gateway.wait_log("(end)")
        told = re.findall(r"event=spool_overflow events=(\d+)", gateway.log())
        assert sum(map(int, told)) == lost
    # Nothing is unaccounted for. A batch that was on its way when its segment was given up is counted
    # and may arrive nevertheless; what stopping itself has to say may come on top.
    arrived = len(account.by_id)
    assert account.repeated == 0 and appended >= CELLS * FRAMES
    assert appended <= arrived + lost <= appended + BATCH + CELLS * 16
    guests = account.guests()
    assert len(guests) >= CELLS * FRAMES - lost
    # It was the oldest that went: behind that batch, the newest of each run are all there, in order. One
    # whose guest was through early has nothing left but what was told of it.
    kept = Account(a.text for a in account.arrivals[BATCH:])
    for run in kept.runs():
        sequences = kept.sequences(run)
        assert sequences == list(range(sequences[0], sequences[-1] + 1)) and sequences[0] > 1
        newest = [a.guest["guestPid"] for a in kept.guests() if a.run == run][-1:]
        assert newest in ([], [FRAMES])
    assert kept.guests()
