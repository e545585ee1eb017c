"""A restart that no guest notices: sockets and connections wait in the descriptor store."""

import fcntl
import os
import pathlib
import socket
import subprocess

import pytest

from support.control import ControlledGateway
from support.flows import Account, Load, caught_up, to_file, until
from support.gateway import BINARY
from support.guest import Guest, frame
from support.manager import Manager

HANDOVER = {"shutdown": {"handover": "on"}}


def frames(gateway, cell="cell-0"):
    return gateway.show(cell)[1]["frames"]


def heard(gateway, count, cell="cell-0"):
    until(lambda: frames(gateway, cell) == count, gateway.log)
    gateway.settle()


def restart(gateway):
    assert gateway.stop() == 0
    log = gateway.log()
    gateway.start()
    return log


def assert_no_gap(path):
    done = subprocess.run(
        [BINARY, "verify", "--keys", "/dev/null", "--gaps", path],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert "missing" not in done.stdout and "repeated" not in done.stdout, done.stdout[-2000:]


def test_a_guest_sends_on_over_a_restart_in_the_middle_of_a_frame(tmp_path):
    with Manager(store=100) as manager:
        with ControlledGateway(tmp_path, cells=2, config=HANDOVER, manager=manager) as gateway:
            with Guest(gateway.base()) as guest, Guest(gateway.base()) as second:
                cut = frame(guest_pid=77, guest_comm="across")
                guest.send_many(5)
                second.send()
                guest.send_raw(cut[:40])
                heard(gateway, 6)
                until(lambda: gateway.show("cell-0")[1]["connections"] == 2, gateway.log)
                for round_number in range(3):
                    log = restart(gateway)
                    assert "event=handed_over sockets=4 connections=2" in log
                    assert "event=taken_over cells=2 connections=2" in gateway.log()
                    assert gateway.show("cell-0")[1]["connections"] == 2
                    assert frames(gateway) == 6 + round_number
                    guest.send_raw(cut[40:] + cut[:40])
                    heard(gateway, 7 + round_number)
                guest.send_raw(cut[40:])
                heard(gateway, 10)
            # Others connect as ever, with the next ordinal.
            with Guest(gateway.base()) as third:
                third.send()
                heard(gateway, 11)
            assert manager.kept() == 0
            assert gateway.stop() == 0
            account = Account.of_files(gateway.events_path)
        account.assert_in_order()
        assert account.repeated == 0
        across = [a for a in account.guests() if a.guest["guestComm"] == "across"]
        assert len(across) == 4 and {a.connection for a in across} == {across[0].connection}
        assert len(account.guests()) == 11
        assert sorted({a.connection for a in account.guests()}) == [1, 2, 3]
        events = gateway.events()
        opened = [e["data"]["connection"] for e in events if e["type"].endswith("stream_opened")]
        closed = [e["data"] for e in events if e["type"].endswith("stream_closed")]
        assert sorted(opened) == [1, 2, 3]
        counts = {e["connection"]: (e["frames"], e["reason"]) for e in closed}
        first = across[0].connection
        assert counts[first] == (9, "eof") and counts[3 - first] == (1, "eof")
        assert_no_gap(gateway.events_path)


def test_registered_cells_go_on_too_and_sockets_keep_their_files(tmp_path):
    with Manager(store=100) as manager:
        with ControlledGateway(tmp_path, config=HANDOVER, manager=manager) as gateway:
            assert gateway.put("vm", keepalive_ms=3600000)[0] == 201
            path = pathlib.Path(f"{gateway.base_of('vm')}_9001")
            before = path.stat()
            with Guest(gateway.base_of("vm")) as guest:
                guest.send()
                heard(gateway, 1, "vm")
                assert gateway.stop() == 0
                # Nobody reads now; who connects and sends waits.
                guest.send()
                with Guest(gateway.base_of("vm")) as late:
                    late.send()
                    gateway.start()
                    heard(gateway, 3, "vm")
                assert (path.stat().st_ino, path.stat().st_dev) == (before.st_ino, before.st_dev)
                assert gateway.put("vm", keepalive_ms=3600000)[0] == 200
                status, totals = gateway.delete("vm")
                assert status == 200 and totals["frames"] == 3
                assert guest.wait_end()
            assert not path.exists()


def test_what_the_new_configuration_does_not_have_is_removed(tmp_path):
    with Manager(store=100) as manager:
        with ControlledGateway(tmp_path, cells=3, config=HANDOVER, manager=manager) as gateway:
            with Guest(gateway.base(1)) as leaving, Guest(gateway.base(2)) as other_run:
                leaving.send()
                other_run.send()
                heard(gateway, 1, "cell-1")
                heard(gateway, 1, "cell-2")
                del gateway.config["ingress"]["cells"][1]
                gateway.config["ingress"]["cells"][1]["run_id"] = "another"
                restart(gateway)
                # Both guests' runs are over; the second one's socket made room for the new one.
                assert "taken_over cells=1 connections=0 cells_removed=1" in gateway.log()
                leaving.wait_end()
                other_run.wait_end()
            assert not pathlib.Path(f"{gateway.base(1)}_9001").exists()
            with Guest(gateway.base(2)) as guest:
                guest.send()
                heard(gateway, 1, "cell-2")


@pytest.mark.parametrize("room", [0, 3])
def test_a_store_without_room_is_noticed_and_guests_are_let_go_in_order(tmp_path, room):
    with Manager(store=room) as manager:
        with ControlledGateway(tmp_path, cells=3, config=HANDOVER, manager=manager) as gateway:
            with Guest(gateway.base()) as guest:
                guest.send_many(10)
                assert gateway.stop() == 0
                assert guest.wait_end()
            log = gateway.log()
            assert "event=not_handed_over" in log and "FileDescriptorStoreMax=" in log
            assert manager.kept() == 0
            assert not pathlib.Path(f"{gateway.base()}_9001").exists()
            gateway.start()
            with Guest(gateway.base()) as guest:
                guest.send()
                heard(gateway, 1)
            caught_up(gateway, "file")
        account = Account.of_files(gateway.events_path)
        account.assert_in_order()
        assert len(account.guests()) == 11


def test_by_itself_it_hands_over_where_the_manager_says_that_there_is_a_store(tmp_path):
    for tells in (False, True):
        directory = tmp_path / str(tells)
        directory.mkdir()
        with Manager(store=100, tells_of_store=tells) as manager:
            with ControlledGateway(directory, cells=1, manager=manager) as gateway:
                with Guest(gateway.base()) as guest:
                    guest.send()
                    heard(gateway, 1)
                    assert gateway.stop() == 0
                    assert ("event=handed_over" in gateway.log()) == tells
                    assert (manager.kept() > 0) == tells
                    assert pathlib.Path(f"{gateway.base()}_9001").exists() == tells
                    if not tells:
                        assert guest.wait_end()


def test_a_reload_turns_it_off(tmp_path):
    with Manager(store=100) as manager:
        with ControlledGateway(tmp_path, cells=1, config=HANDOVER, manager=manager) as gateway:
            gateway.config["shutdown"]["handover"] = "off"
            assert gateway.reload()[0] == 200
            assert gateway.stop() == 0
            assert not manager.heard("FDSTORE")


def damage(manager, how):
    """Changes what is stored; returns how many descriptors there were."""
    count = manager.kept()
    stored = manager.stored
    table = next(fd for _, fd in stored if os.path.exists(f"/proc/self/fd/{fd}") and
                 "cellgate-table" in os.readlink(f"/proc/self/fd/{fd}"))
    size = os.fstat(table).st_size
    data = bytearray(os.pread(table, size, 0))
    if how == "foreign":
        data = bytearray(b"#!/bin/sh\n")
    elif how == "cut":
        data = data[:-3]
    elif how == "flipped":
        data[len(data) // 2] ^= 0x10
    elif how == "other version":
        data[8] = 9
    fd = os.memfd_create("cellgate-table", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, data)
    seals = 0x0001 | 0x0002 | 0x0004 | 0x0008
    if how != "unsealed":
        fcntl.fcntl(fd, 1033, seals)
    if how != "missing":
        os.dup2(fd, table)
    else:
        null = os.open("/dev/null", os.O_RDONLY)
        os.dup2(null, table)
        os.close(null)
    os.close(fd)
    return count


@pytest.mark.parametrize(
    "how", ["foreign", "cut", "flipped", "other version", "unsealed", "missing"]
)
def test_a_table_that_cannot_be_used_is_said_and_the_start_goes_on(tmp_path, how):
    with Manager(store=100) as manager:
        with ControlledGateway(tmp_path, cells=2, config=HANDOVER, manager=manager) as gateway:
            with Guest(gateway.base()) as guest:
                guest.send()
                heard(gateway, 1)
                assert gateway.stop() == 0
                damage(manager, how)
                gateway.start()
                assert "event=handover_refused" in gateway.log()
                assert manager.kept() == 0
                guest.wait_end()
            # The sockets that the old one had made are known from the journal, and made anew.
            with Guest(gateway.base()) as guest:
                guest.send()
                heard(gateway, 1)
            caught_up(gateway, "file")
        account = Account.of_files(gateway.events_path)
        account.assert_in_order()
        assert len(account.guests()) == 2


def test_strangers_in_the_store_are_closed(tmp_path):
    with Manager(store=100) as manager:
        with ControlledGateway(tmp_path, cells=1, config=HANDOVER, manager=manager) as gateway:
            with Guest(gateway.base()) as guest:
                guest.send()
                heard(gateway, 1)
                assert gateway.stop() == 0
                ours, theirs = socket.socketpair()
                manager.put("cellgate", theirs.fileno())
                theirs.close()
                with open(os.devnull) as null:
                    manager.put("cellgate", null.fileno())
                gateway.start()
                ours.settimeout(60)
                assert ours.recv(1) == b""
                ours.close()
                assert "taken_over cells=1 connections=1 cells_removed=0 sockets_closed=1" in gateway.log()
                guest.send()
                heard(gateway, 2)


def test_a_guest_that_has_ended_while_nobody_ran_loses_nothing(tmp_path):
    with Manager(store=100) as manager:
        with ControlledGateway(tmp_path, cells=1, config=HANDOVER, manager=manager) as gateway:
            with Guest(gateway.base()) as guest:
                guest.send()
                heard(gateway, 1)
                assert gateway.stop() == 0
                guest.send_many(20)
            gateway.start()
            heard(gateway, 21)
            caught_up(gateway, "file")
            until(lambda: gateway.show("cell-0")[1]["connections"] == 0, gateway.log)


def test_a_kill_in_the_middle_of_handing_over_loses_no_appended_event(tmp_path):
    """The manager hears nothing, so that the gateway waits for it; then it is killed."""
    with Manager(store=100) as manager:
        with ControlledGateway(tmp_path, cells=1, config=HANDOVER, manager=manager) as gateway:
            with Guest(gateway.base()) as guest:
                guest.send_many(50)
                heard(gateway, 50)
                manager.deaf = True
                gateway.process.terminate()
                manager.wait(lambda _: len(manager.unheard) >= 3)
                gateway.process.kill()
                gateway.process.wait()
                manager.deaf = False
                while manager.unheard:
                    os.close(manager.unheard.pop())
                guest.wait_end()
            gateway.start()
            with Guest(gateway.base()) as guest:
                guest.send()
                heard(gateway, 1)
            caught_up(gateway, "file")
        account = Account.of_files(gateway.events_path)
        assert len(account.guests()) == 51
        assert_no_gap(gateway.events_path)


def test_many_guests_send_on_over_restarts_under_load(tmp_path):
    cells, connections = 20, 3
    path = tmp_path / "events.jsonl"
    exporters = [to_file("file", path)]
    with Manager(store=1000) as manager:
        with ControlledGateway(
            tmp_path, cells=cells, config=HANDOVER, exporters=exporters, manager=manager
        ) as gateway:
            arguments = ["--cells", cells, "--connections", connections, "--frames", 250]
            with Load(gateway.base("%d"), *arguments, "--rate", 1500) as load:
                for round_number in range(4):
                    until(
                        lambda: gateway.metric("cellgate_frames_received_total") > 200, gateway.log
                    )
                    log = restart(gateway)
                    assert "event=handed_over" in log, log[-3000:]
                status, summary = load.end()
            assert status == 0, summary
            assert summary["lost"] == 0 and summary["resets"] == 0
            caught_up(gateway, "file")
            assert gateway.stop() == 0
        account = Account.of_files(path)
        account.assert_in_order()
        assert account.repeated == 0
        assert len(account.guests()) == summary["sent"]
        ordinals = {(a.run, a.connection) for a in account.guests()}
        assert len(ordinals) == cells * connections
        assert_no_gap(path)
