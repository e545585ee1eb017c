"""What the real binary has given up once it is ready, and what it can still do.

Most of this needs root, who alone has something to give up; a part that the machine lacks is
skipped with its name.
"""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile

import pytest
from support.control import ControlledGateway
from support.flows import until
from support.gateway import BINARY, QUICK_RETRY, Gateway
from support.guest import Guest
from support.http_sink import HttpSink

USER, GROUP = 12345, 23456  # of the gateway
VMM_USER, VMM_GROUP = 34567, 45678

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to give up")


@pytest.fixture
def directory():
    """One that other users can walk into, unlike pytest's."""
    with tempfile.TemporaryDirectory(prefix="cg-sandbox-") as path:
        os.chmod(path, 0o755)
        yield pathlib.Path(path)


def owned(path, user=USER, group=GROUP, mode=0o700):
    path = pathlib.Path(path)
    path.mkdir(exist_ok=True)
    os.chown(path, user, group)
    path.chmod(mode)
    return path


class SandboxedGateway(ControlledGateway):
    """Started by root, and another user's from then on. The directory of its listeners and of the
    cells without owner is its own; `jail` is a VMM's."""

    def __init__(self, directory, *, config=None, start=True, **kw):
        directory = pathlib.Path(directory)
        out = owned(directory / "out")
        exporters = kw.pop("exporters", None) or [
            {"name": "file", "type": "jsonl", "path": str(out / "events.jsonl"),
             "batch": {"linger": "0s"}}]
        super().__init__(directory, exporters=exporters, start=False, **kw)
        self.events_path = out / "events.jsonl"
        owned(self._short.name)
        self.jail = owned(directory / "jail", VMM_USER, VMM_GROUP)
        self.config["sandbox"] = {"user": str(USER), "group": str(GROUP)}
        self.config["ingress"]["roots"].append(str(self.jail))
        self.config["ingress"]["owners"] = {"uids": [VMM_USER, VMM_USER],
                                            "gids": [VMM_GROUP, VMM_GROUP]}
        for key, value in (config or {}).items():
            self.config.setdefault(key, {}).update(value)
        # Its parent is root's, so these must be made by root and given away.
        self.state, self.spool = directory / "state", directory / "spool"
        if start:
            self.start()

    def put_jailed(self, cell_id, **more):
        return self.put(cell_id, vsock_uds_base=f"{self.jail}/{cell_id}.vsock",
                        owner={"uid": VMM_USER, "gid": VMM_GROUP}, **more)

    def status(self):
        lines = pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return {key: value.split() for key, _, value in (line.partition(":") for line in lines)}

    def helper_pid(self):
        line = self.wait_log("event=sandbox")
        return int(line.partition("helper_pid=")[2].split()[0])

    def lines_exported(self):
        """Whole ones: the last may be on its way."""
        return self.events_path.read_bytes().count(b"\n") if self.events_path.exists() else 0

    def sandbox(self):
        return json.loads(self.get("/healthz")[1])["sandbox"]


def has(part, gateway):
    """Skips where the machine has no such part."""
    if not gateway.sandbox()[part]:
        pytest.skip(f"this machine has no {part}: {gateway.wait_log('event=sandbox')}")


@needs_root
def test_it_is_another_user_without_any_right(directory):
    with SandboxedGateway(directory) as gateway:
        status = gateway.status()
        assert status["Uid"] == [str(USER)] * 4 and status["Gid"] == [str(GROUP)] * 4
        assert status["Groups"] == [str(GROUP)]
        for name in ("CapInh", "CapPrm", "CapEff", "CapAmb", "CapBnd"):
            assert int(status[name][0], 16) == 0, name
        assert status["NoNewPrivs"] == ["1"]
        for task in pathlib.Path(f"/proc/{gateway.process.pid}/task").iterdir():
            text = (task / "status").read_text()
            assert f"Uid:\t{USER}\t" in text and "CapEff:\t0000000000000000" in text
        limits = pathlib.Path(f"/proc/{gateway.process.pid}/limits").read_text()
        assert re.search(r"^Max core file size +0 +0 ", limits, re.MULTILINE)
        # Not dumpable: what the kernel shows of it belongs to root.
        assert os.stat(f"/proc/{gateway.process.pid}/environ").st_uid == 0
        sandbox = gateway.sandbox()
        assert sandbox["user"] and sandbox["capabilities"] and sandbox["dumps"]
        assert gateway.metric("cellgate_sandbox", part="capabilities") == 1
        assert gateway.stop() == 0


@needs_root
def test_every_thread_is_under_the_filter(directory):
    with SandboxedGateway(directory) as gateway:
        has("seccomp", gateway)
        tasks = pathlib.Path(f"/proc/{gateway.process.pid}/task")

        def names():
            """Each thread names itself, when it first runs."""
            return {(task / "comm").read_text().strip() for task in tasks.iterdir()}

        wanted = {"acceptor", "spool", "http", "ingress-0", "to-file", "helper-watch"}
        until(lambda: wanted <= names(), names)
        assert all("Seccomp:\t2" in (task / "status").read_text() for task in tasks.iterdir())
        helper = pathlib.Path(f"/proc/{gateway.helper_pid()}/status").read_text()
        assert "Seccomp:\t2" in helper and "NoNewPrivs:\t1" in helper
        assert "CapEff:\t000000000000000b" in helper  # CHOWN, DAC_OVERRIDE, FOWNER


@needs_root
def test_what_it_makes_is_its_own(directory):
    with SandboxedGateway(directory) as gateway:
        for path in (gateway.state, gateway.spool, gateway.state / "dead-letters"):
            assert os.stat(path).st_uid == USER
        with Guest(registered(gateway, "cell-a")) as guest:
            guest.send_many(20)
            until(lambda: gateway.lines_exported() >= 20, "the events")
        assert os.stat(gateway.events_path).st_uid == USER
        assert {os.stat(path).st_uid for path in gateway.spool.iterdir()} == {USER}
        assert gateway.stop() == 0
        gateway.start()  # and again, on what is there
        assert gateway.status()["Uid"][0] == str(USER)
        assert gateway.stop() == 0


def registered(gateway, cell_id, **more):
    status, answer = gateway.put(cell_id, **more)
    assert status == 201, answer
    return answer["socket"].removesuffix("_9001")


@needs_root
def test_a_vmms_own_directory_gets_its_socket_from_the_helper(directory):
    with SandboxedGateway(directory) as gateway:
        status, answer = gateway.put_jailed("cell-j")
        assert status == 201, answer
        found = os.stat(answer["socket"])
        assert (found.st_uid, found.st_gid) == (VMM_USER, VMM_GROUP)
        with Guest(answer["socket"].removesuffix("_9001")) as guest:
            guest.send_many(10)
            until(lambda: gateway.lines_exported() >= 10, "the events")
        assert gateway.metric("cellgate_helper_requests_total", outcome="done") > 0
        assert gateway.delete("cell-j")[0] == 200
        assert list(gateway.jail.iterdir()) == []


@needs_root
def test_a_killed_gateways_sockets_are_swept_and_made_again(directory):
    with SandboxedGateway(directory) as gateway:
        assert gateway.put_jailed("cell-j")[0] == 201
        helper = gateway.helper_pid()
        gateway.kill()
        until(lambda: not pathlib.Path(f"/proc/{helper}").exists(), "the helper's end")
        assert len(list(gateway.jail.iterdir())) == 1
        gateway.start()
        status, answer = gateway.put_jailed("cell-j")
        assert status == 200, answer
        assert os.stat(answer["socket"]).st_uid == VMM_USER
        assert gateway.stop() == 0
        assert list(gateway.jail.iterdir()) == []


@needs_root
def test_a_path_outside_the_roots_is_refused(directory):
    with SandboxedGateway(directory) as gateway:
        outside = owned(directory / "outside", VMM_USER, VMM_GROUP)
        status, problem = gateway.put("cell-o", vsock_uds_base=f"{outside}/o.vsock")
        assert status == 403, problem
        assert list(outside.iterdir()) == []


@needs_root
def test_without_its_helper_the_gateway_says_so_and_goes_on(directory):
    with SandboxedGateway(directory) as gateway:
        own = registered(gateway, "cell-own")
        os.kill(gateway.helper_pid(), signal.SIGKILL)
        gateway.wait_log("event=helper_ended")
        status, problem = gateway.put_jailed("cell-j")
        assert status == 500 and "privileged helper" in problem["detail"], problem
        with Guest(own) as guest:
            guest.send_many(10)
            until(lambda: gateway.lines_exported() >= 10, "the events")
        registered(gateway, "cell-more")
        report = json.loads(gateway.get("/healthz")[1])
        assert (report["status"], report["sandbox"]["helper"]) == ("degraded", "ended")
        assert gateway.metric("cellgate_helper_up") == 0
        status, text = gateway.get("/readyz?verbose")
        assert status == 200 and "[?] sandbox: the privileged helper has ended" in text
        assert gateway.stop() == 0


@needs_root
def test_the_helper_ends_with_the_gateway(directory):
    with SandboxedGateway(directory) as gateway:
        helper = pathlib.Path(f"/proc/{gateway.helper_pid()}")
        assert helper.exists()
        assert gateway.stop() == 0
        assert not helper.exists()


@needs_root
def test_a_token_that_only_root_may_read_is_read_again(directory):
    token = directory / "token"

    def write(text):
        fresh = directory / "token.new"
        fresh.write_text(text)
        fresh.chmod(0o600)
        fresh.rename(token)

    write("first")
    with HttpSink() as sink:
        exporters = [{"name": "sink", "type": "cloudevents-http", "url": sink.url,
                      "bearer_token_file": str(token), "retry": QUICK_RETRY,
                      "batch": {"linger": "0s"}}]
        with SandboxedGateway(directory, exporters=exporters) as gateway:
            with Guest(registered(gateway, "cell-a")) as guest:
                guest.send_many(1)
                sink.wait_accepted(1)
                write("second")
                guest.send_many(1)
                sink.wait(lambda: sink.requests[-1].headers["authorization"] == "Bearer second")
            assert sink.requests[0].headers["authorization"] == "Bearer first"


@needs_root
def test_the_pages_of_the_key_are_locked_and_in_no_dump(directory):
    done = subprocess.run([BINARY, "keygen", "--kid", "k", "--out", str(directory)], check=True,
                          capture_output=True)
    assert done.returncode == 0
    config = {"signing": {"mode": "ed25519", "kid": "k", "key_file": str(directory / "k.key")}}
    with SandboxedGateway(directory, config=config) as gateway:
        smaps = pathlib.Path(f"/proc/{gateway.process.pid}/smaps").read_text()
        flags = [line.split()[1:] for line in smaps.splitlines() if line.startswith("VmFlags:")]
        assert any("dd" in own for own in flags)
        if "libasan" in smaps or "libtsan" in smaps:
            pytest.skip("the sanitizers' runtimes make mlock do nothing")
        assert any("dd" in own and "lo" in own for own in flags)


@needs_root
def test_on_starts_only_with_every_part(directory):
    with SandboxedGateway(directory) as gateway:
        for part in ("seccomp", "landlock"):
            has(part, gateway)
    with SandboxedGateway(directory, config={"sandbox": {"enable": "on"}}) as gateway:
        assert all(value is not False for value in gateway.sandbox().values())


@needs_root
def test_off_gives_up_nothing(directory):
    with SandboxedGateway(directory, config={"sandbox": {"enable": "off"}}) as gateway:
        status = gateway.status()
        assert status["Uid"][0] == "0" and status["NoNewPrivs"] == ["0"]
        assert gateway.sandbox()["helper"] == "none"
        assert gateway.put_jailed("cell-j")[0] == 201  # by itself


def test_a_user_that_there_is_not_ends_the_start(tmp_path):
    with Gateway(tmp_path, exporters=[{"name": "o", "type": "jsonl", "path": "-"}],
                 config={"sandbox": {"user": "no-such-user"}}, start=False) as gateway:
        with pytest.raises(AssertionError, match="no-such-user"):
            gateway.start()
        assert gateway.process.wait(60) == 1


@needs_root
def test_without_rights_from_the_start_there_is_no_helper(directory):
    """As a user other than root, where the binary can be reached."""
    place = owned(directory / "place")
    config = place / "cellgate.json"
    config.write_text(json.dumps({
        "http": {"listen": f"unix:{place}/http.sock"}, "spool": {"dir": str(place / "spool")},
        "ingress": {"cells": [{"cell_id": "a", "run_id": "r", "spec_signature_hash": "sha256:00",
                               "vsock_uds_base": f"{place}/a.vsock"}]},
        "exporters": [{"name": "o", "type": "jsonl", "path": str(place / "o.jsonl")}]}))
    try:
        process = subprocess.Popen([BINARY, "run", "--config", str(config)], user=USER,
                                   group=GROUP, extra_groups=[], stderr=subprocess.PIPE, text=True)
    except PermissionError:
        pytest.skip("another user cannot run the binary where it lies")
    lines = []
    for line in process.stderr:
        lines.append(line)
        if "event=ready" in line:
            break
    text = "".join(lines)
    assert "event=ready" in text and "helper=none" in text, text
    process.send_signal(signal.SIGTERM)
    assert process.stderr.read() is not None and process.wait(60) == 0


@needs_root
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is not installed")
def test_a_user_with_three_capabilities_hands_them_to_the_helper(directory):
    """As the unit's drop-in jailed.conf starts it: never root, and with ambient capabilities."""
    rights = "-all,+chown,+fowner,+dac_override"
    wrapper = directory / "run-as"
    wrapper.write_text(f"""#!/bin/sh
exec setpriv --reuid {USER} --regid {GROUP} --clear-groups --inh-caps={rights} \
    --ambient-caps={rights} --bounding-set={rights} '{BINARY}' "$@"
""")
    wrapper.chmod(0o755)
    owned(directory / "state")
    owned(directory / "spool")
    with SandboxedGateway(directory, start=False, binary=str(wrapper)) as gateway:
        del gateway.config["sandbox"]
        gateway.start()
        status = gateway.status()
        assert status["Uid"] == [str(USER)] * 4 and int(status["CapEff"][0], 16) == 0
        helper = pathlib.Path(f"/proc/{gateway.helper_pid()}/status").read_text()
        assert f"Uid:\t{USER}\t" in helper and "CapEff:\t000000000000000b" in helper
        status, answer = gateway.put_jailed("cell-j")
        assert status == 201, answer
        assert os.stat(answer["socket"]).st_uid == VMM_USER
        assert gateway.delete("cell-j")[0] == 200
        assert list(gateway.jail.iterdir()) == []
        assert gateway.stop() == 0


@needs_root
def test_a_directory_that_another_user_owns_is_named(directory):
    (directory / "state").mkdir()
    with SandboxedGateway(directory, start=False) as gateway:
        with pytest.raises(AssertionError, match="directory_not_own"):
            gateway.start()


def test_a_relative_path_is_within_reach(tmp_path):
    """As in the quickstart, where everything lies where one stands."""
    (tmp_path / "token").write_text("t")
    (tmp_path / "token").chmod(0o600)
    wrapper = tmp_path / "run-here"
    wrapper.write_text(f"#!/bin/sh\ncd '{tmp_path}' && exec '{BINARY}' \"$@\"\n")
    wrapper.chmod(0o755)
    with HttpSink() as sink:
        exporters = [
            {"name": "file", "type": "jsonl", "path": "events.jsonl", "batch": {"linger": "0s"}},
            {"name": "sink", "type": "cloudevents-http", "url": sink.url,
             "bearer_token_file": "token", "retry": QUICK_RETRY, "batch": {"linger": "0s"}}]
        with Gateway(tmp_path, exporters=exporters, binary=str(wrapper)) as gateway:
            with Guest(gateway.base(0)) as guest:
                guest.send_many(5)
                sink.wait_accepted(5)
                events = tmp_path / "events.jsonl"
                until(lambda: events.exists() and events.read_bytes().count(b"\n") >= 5, "events")
