"""As a unit of the service manager: what it is told, the watchdog, sockets that it passes."""

import fcntl
import os
import signal
import socket
import http.client

from support.control import ControlledGateway
from support.flows import to_file, until
from support.gateway import Gateway, UnixConnection
from support.guest import Guest
from support.http_sink import Answer, HttpSink
from support.manager import Manager


def test_start_reload_and_end_are_told(tmp_path):
    with Manager() as manager, HttpSink() as sink:
        sink.script(*[Answer(503)] * 1000)
        exporter = {"name": "c", "type": "cloudevents-http", "url": sink.url}
        config = {"shutdown": {"drain": "10m"}}
        with Gateway(tmp_path, exporters=[exporter], config=config, manager=manager) as gateway:
            manager.wait(lambda said: len(said) == 1)
            assert manager.heard("READY", "1")
            gateway.process.send_signal(signal.SIGHUP)
            manager.wait(lambda said: len(said) == 3)
            (reloading,) = manager.heard("RELOADING", "1")
            assert int(reloading["MONOTONIC_USEC"]) > 0
            assert "READY" in manager.messages[-1]
            with Guest(gateway.base()) as guest:
                guest.send()
                sink.wait_requests(1)
                gateway.process.send_signal(signal.SIGTERM)
                manager.wait(lambda said: sum("EXTEND_TIMEOUT_USEC" in m for m in said) >= 3)
                stopping = next(i for i, m in enumerate(manager.messages) if "STOPPING" in m)
                extended = [int(m["EXTEND_TIMEOUT_USEC"]) for m in manager.messages[stopping + 1 :]]
                assert extended[0] > 600 * 10**6 and min(extended) > 0
                gateway.process.send_signal(signal.SIGTERM)
                assert gateway.process.wait(60) == 0


def test_the_watchdog_hears_of_a_gateway_that_does_nothing(tmp_path):
    with Manager(watchdog=400_000) as manager:
        exporters = [to_file("file", tmp_path / "events.jsonl")]
        with Gateway(tmp_path, exporters=exporters, manager=manager):
            manager.wait(lambda said: sum("WATCHDOG" in m for m in said) >= 5)


def test_the_watchdog_hears_no_more_once_a_thread_is_stuck(tmp_path):
    """The disk holds the thread that appends; the watchdog is silent until it goes on."""
    lock = tmp_path / "lock"
    lock.touch()
    env = {"LD_PRELOAD": os.environ["CELLGATE_STALL"], "STALL_LOCK": str(lock)}
    # The sanitizers want to be first, and are told not to mind.
    env["ASAN_OPTIONS"] = "verify_asan_link_order=0"
    exporters = [to_file("file", tmp_path / "events.jsonl")]
    config = {"spool": {"dir": str(tmp_path / "spool")}}
    with Manager(watchdog=2_000_000) as manager:
        with Gateway(
            tmp_path, exporters=exporters, config=config, env=env, manager=manager
        ) as gateway:
            with open(lock) as held, Guest(gateway.base()) as guest:
                manager.wait(lambda said: sum("WATCHDOG" in m for m in said) >= 2)
                fcntl.flock(held, fcntl.LOCK_EX)
                lines = len(gateway.lines)  # a busy machine may have let it look stuck before
                guest.send()
                gateway.wait_log("event=thread_stuck", after=lines)
                # Whatever was said before the line was written has been heard once this has.
                gateway.process.send_signal(signal.SIGHUP)
                manager.wait(lambda said: any("RELOADING" in m for m in said))
                reloading = next(i for i, m in enumerate(manager.messages) if "RELOADING" in m)
                # Nothing but the reload is said by a gateway that is stuck.
                gateway.wait_log("event=reloaded")
                manager.wait(lambda said: any("READY" in m for m in said[reloading:]))
                assert not [m for m in manager.messages[reloading:] if "WATCHDOG" in m]
                said = len(manager.messages)
                fcntl.flock(held, fcntl.LOCK_UN)
                manager.wait(lambda said_now: any("WATCHDOG" in m for m in said_now[said:]))
                until(lambda: gateway.metric("cellgate_frames_received_total") == 1, gateway.log)


def test_both_listeners_can_be_passed_and_their_files_stay(tmp_path):
    with Manager() as manager:
        passed = manager.listen("http", "127.0.0.1", 0)
        control = tmp_path / "c.sock"
        manager.listen("control", control)
        other = manager.listen("something", tmp_path / "s.sock")
        with ControlledGateway(tmp_path, start=False, manager=manager) as gateway:
            control_path = gateway.socket
            gateway.config["control"] = {}
            gateway.socket = str(control)
            port = passed.getsockname()[1]

            def get(path):
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
                connection.request("GET", path)
                answer = connection.getresponse()
                status, body = answer.status, answer.read().decode()
                connection.close()
                return status, body

            gateway.get = get  # the public listener is the one that was passed
            gateway.start()
            assert f"address=127.0.0.1:{port}" in gateway.log()
            assert f"address=unix:{control}" in gateway.log()
            assert "event=descriptor_unused name=something" in gateway.log()
            assert gateway.put("passed")[0] == 201
            assert not os.path.exists(control_path) and not os.path.exists(gateway.public)
            assert gateway.stop() == 0
            assert control.exists()
            # Who connects meanwhile waits for the next start.
            waiting = UnixConnection(str(control), 60)
            waiting.request("GET", "/livez")
            gateway.start()
            assert waiting.getresponse().status == 200
            waiting.close()
            assert get("/v1/cells/passed")[0] == 200
            assert other.fileno() >= 0


def test_a_socket_that_does_not_listen_is_refused(tmp_path):
    with Manager() as manager:
        pair = socket.socketpair()
        manager.put("http", pair[0].fileno())
        exporters = [to_file("file", tmp_path / "events.jsonl")]
        gateway = Gateway(tmp_path, exporters=exporters, manager=manager, start=False)
        with gateway:
            status, log = gateway.try_start()
            assert status == 1 and "the socket that was passed does not listen" in log
        for end in pair:
            end.close()


def test_without_a_state_directory_a_control_socket_is_refused(tmp_path):
    with Manager() as manager:
        manager.listen("control", tmp_path / "c.sock")
        exporters = [to_file("file", tmp_path / "events.jsonl")]
        with Gateway(tmp_path, exporters=exporters, manager=manager, start=False) as gateway:
            status, log = gateway.try_start()
            assert status == 1 and "needs a state_dir" in log
