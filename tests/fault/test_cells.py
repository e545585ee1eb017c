"""A thousand cells whose guests connect and leave at random, and a wall clock that is set."""

import random

from support.faults import Injection, Ledger, last_delivered, last_sequences, scaled
from support.flows import Account, Load, caught_up, to_sink, until
from support.gateway import Gateway
from support.guest import Guest, frame
from support.http_sink import HttpSink

SEED = 20261125


def config(directory):
    return {"state_dir": str(directory / "state"), "spool": {"dir": str(directory / "spool")}}


def test_a_thousand_cells_that_connect_and_leave_at_random_lose_nothing(tmp_path):
    rng = random.Random(SEED)
    cells = scaled(400, 1000)
    sent = [0] * cells
    guests = {}
    with HttpSink() as sink:
        exporters = [to_sink("central", sink.url)]
        with Gateway(tmp_path, exporters=exporters, cells=cells, config=config(tmp_path)) as gateway:
            for _ in range(scaled(4000, 40000)):
                cell = rng.randrange(cells)
                guest = guests.get(cell)
                if guest is None:
                    guests[cell] = Guest(gateway.base(cell))
                elif rng.random() < 0.3:
                    guest.close()
                    del guests[cell]
                else:
                    for _ in range(rng.randrange(1, 5)):
                        sent[cell] += 1
                        guest.send_raw(frame(guest_pid=sent[cell]))
            for guest in guests.values():
                guest.close()
            until(
                lambda: gateway.metric("cellgate_connections") == 0
                and gateway.metric("cellgate_frames_received_total") == sum(sent),
                lambda: "not everything was read",
            )
            caught_up(gateway, "central")
            resident = gateway.resident_bytes()
            last = last_sequences(gateway, [f"cell-{i}" for i in range(0, cells)])
            assert gateway.stop() == 0
        account = Account.of_sink(sink)
    account.assert_in_order()
    last = {run: max(end, last_delivered(account).get(run, 0)) for run, end in last.items()}
    Ledger(
        f"{cells} cells come and go", account, last=last, sent=sum(sent), resident=resident
    ).settle()  # fmt: skip
    of_cell = {}
    for arrival in account.guests():
        of_cell.setdefault(int(arrival.run[0][5:]), []).append(arrival.guest["guestPid"])
    assert all(of_cell.get(i, []) == list(range(1, sent[i] + 1)) for i in range(cells))


def test_a_wall_clock_that_is_set_back_and_forward_stops_nothing(tmp_path):
    """Times are stamped as the clock says; order, silence and retries do not look at it."""
    injection = Injection(tmp_path)
    hour = 3600 * 10**9
    cells = ["cell-0", "cell-1"]
    with HttpSink() as sink:
        gateway = Gateway(
            tmp_path, exporters=[to_sink("central", sink.url)], cells=2, config=config(tmp_path),
            env=injection.env,
        )  # fmt: skip
        with gateway:
            load = ["--cells", 2, "--frames", scaled(4000, 40000), "--rate", 8000]
            with Load(gateway.base("%d"), *load) as load:
                for offset in (-hour, hour, -1000 * hour, 1000 * hour, 0):
                    injection.set(clock=offset)
                    more = len(sink.accepted) + scaled(500, 5000)
                    until(
                        lambda: len(sink.accepted) >= more or not load.running(),
                        lambda: f"{len(sink.accepted)} of {more}",
                    )
                status, summary = load.end()
            assert status == 0
            caught_up(gateway, "central")
            last = last_sequences(gateway, cells)
            assert gateway.stop() == 0
        account = Account.of_sink(sink)
    account.assert_in_order()
    last = {run: max(end, last_delivered(account)[run]) for run, end in last.items()}
    Ledger("wall clock set back and forward", account, last=last, sent=summary["sent"]).settle()
    types = {text.split('"type":"', 1)[1].split('"', 1)[0] for text in account.texts().values()}
    assert not any("agent_silenced" in name for name in types)
