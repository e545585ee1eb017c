"""Many cells, and guests that come back: whose each event is, and which connection it came on."""

import json

from support.flows import Account, Load, caught_up, play, to_sink, total, until
from support.gateway import Gateway
from support.http_sink import HttpSink

CELLS = 500


def start(directory, sink):
    config = {"state_dir": str(directory / "state"), "spool": {"dir": str(directory / "spool")}}
    return Gateway(directory, exporters=[to_sink("central", sink.url)], cells=CELLS, config=config)


def finish(gateway, sink):
    caught_up(gateway, "central")
    assert gateway.stop() == 0
    account = Account.of_sink(sink)
    account.assert_in_order()
    assert account.runs() == {(f"cell-{i}", f"run-{i}") for i in range(CELLS)}
    return account


def of_cells(account):
    cells = {}
    for arrival in account.guests():
        cells.setdefault(arrival.run[0], []).append(arrival)
    return cells


def test_each_connection_has_its_own_ordinal_also_over_a_restart(tmp_path):
    with HttpSink() as sink, start(tmp_path, sink) as gateway:
        for life in range(2):
            summary = play(gateway.base("%d"), "--cells", CELLS, "--connections", 3, "--frames", 4)
            assert summary["sent"] == CELLS * 3 * 4
            until(
                lambda: total(gateway, "cellgate_frames_received_total") == CELLS * 3 * 4,
                lambda: "not all frames were received",
            )
            assert total(gateway, "cellgate_connections_opened_total") == CELLS * 3
            assert not total(gateway, "cellgate_connections_refused_total")
            if life == 0:
                assert gateway.stop() == 0
                gateway.start()
        account = finish(gateway, sink)
    for arrivals in of_cells(account).values():
        assert len(arrivals) == 2 * 3 * 4
        for first_ordinal, of_life in ((1, arrivals[:12]), (4, arrivals[12:])):
            # Connection k of `send` has the pids 4k+1 … 4k+4; which ordinal it got is a race, but it
            # has one, and its frames are in order.
            connections = {}
            for arrival in of_life:
                connections.setdefault(arrival.connection, []).append(arrival.guest["guestPid"])
            assert sorted(connections) == [first_ordinal, first_ordinal + 1, first_ordinal + 2]
            assert sorted(connections.values()) == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]]


def test_guests_that_reconnect_are_told_apart_by_their_connections(tmp_path):
    # The third frame is of a version that closes the connection; the guest opens the next one.
    frames = tmp_path / "frames.jsonl"
    good = {"guest_comm": "good"}
    frames.write_text("".join(json.dumps(f) + "\n" for f in (good, good, {"content_version": 256})))
    with HttpSink() as sink, start(tmp_path, sink) as gateway:
        arguments = ["--cells", CELLS, "--input", frames, "--frames", 9, "--reconnect", 8, "--rate", 6000]
        with Load(gateway.base("%d"), *arguments) as load:
            _, summary = load.end()
        assert summary["reconnects"] > 0
        until(
            lambda: total(gateway, "cellgate_connections") == 0, lambda: "connections stay open"
        )
        assert total(gateway, "cellgate_connections_opened_total") == summary["connections"]
        rejected = total(gateway, "cellgate_frames_rejected_total", reason="unsupported_version")
        assert summary["reconnects"] <= rejected <= CELLS * 3
        received = total(gateway, "cellgate_frames_received_total")
        account = finish(gateway, sink)
    assert len(account.guests()) == received
    for arrivals in of_cells(account).values():
        ordinals = [arrival.connection for arrival in arrivals]
        pids = [arrival.guest["guestPid"] for arrival in arrivals]
        assert ordinals == sorted(ordinals) and ordinals[0] == 1
        assert pids == sorted(set(pids)) and not any(pid % 3 == 0 for pid in pids)
        # The version that closes stands between two connections, and nowhere else.
        for before, after in zip(arrivals, arrivals[1:]):
            turned = (before.guest["guestPid"] - 1) // 3 != (after.guest["guestPid"] - 1) // 3
            assert turned == (before.connection != after.connection)
