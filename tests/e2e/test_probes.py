"""The host probes, by the real binary: real cgroups, a real veth pair and firewall table in namespaces
of the test's own, files as a kernel with all controllers writes them, and a Firecracker's API socket,
file and FIFO played by the test. What the machine does not permit is skipped, with the reason."""

import json
import os
import re
import subprocess
import threading
import time

import pytest
from support.control import ControlledGateway
from support.guest import Guest
from support.host import Firecracker, Network, cgroup, cgroup2_root, metrics, run_in

BINARY = os.environ.get("CELLGATE", "cellgate")
PREFIX = "dev.cellos.events.cell.observability."
NEVER = "1h"  # an interval that no test waits for

# As a kernel 6.1 with memory, pids and io controllers writes them.
RECORDED = {
    "cgroup.events": "populated 1\nfrozen 0\n",
    "cpu.stat": "usage_usec 5120331\nuser_usec 4000000\nsystem_usec 1120331\nnr_periods 0\n"
                "nr_throttled 0\nthrottled_usec 0\nnr_bursts 0\nburst_usec 0\n",
    "memory.current": "268435456\n",
    "memory.peak": "301989888\n",
    "memory.events": "low 0\nhigh 0\nmax 3\noom 0\noom_kill 0\noom_group_kill 0\n",
    "memory.pressure": "some avg10=0.00 avg60=0.13 avg300=1.50 total=91231\n"
                       "full avg10=0.00 avg60=0.00 avg300=0.02 total=4231\n",
    "pids.current": "7\n",
    "pids.events": "max 0\n",
    "io.stat": "254:0 rbytes=90430464 wbytes=299008000 rios=8950 wios=1252 dbytes=0 dios=0\n",
    "io.pressure": "some avg10=0.35 avg60=1.48 avg300=2.24 total=28676024\n"
                   "full avg10=0.00 avg60=0.00 avg300=0.09 total=10269726\n",
}


def write_whole(path, text):
    """In place, as the kernel changes a file: the same inode, one write."""
    with open(path, "r+" if path.exists() else "w") as file:
        file.write(text)
        file.truncate()


class Host:
    """A gateway with probes, and the events it has exported so far."""

    def __init__(self, tmp_path, *, interval="100ms", config=None, **probes):
        self.roots = tmp_path / "roots"
        self.roots.mkdir(exist_ok=True)
        roots = [str(self.roots), "/run/netns"]
        if cgroup2_root() is not None:
            roots.append(str(cgroup2_root()))
        # Nothing here is late because the machine is slow, unless a test says so.
        section = {"roots": roots, "interval": interval, "deadline": "30s", "netns": True,
                   "nftables": {"enabled": True},
                   "corroboration": {"interval": NEVER}, **probes}
        config = {"probes": section, "log": {"level": "debug"}, **(config or {})}
        self.gateway = ControlledGateway(tmp_path, config=config)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.gateway.__exit__()

    def put(self, cell="a", **probes):
        """Registers a cell; what its counters are measured from has been read then."""
        status, body = self.gateway.put(cell, probes=probes)
        assert status == 201, body

        def based():
            lines = [line.split() for line in self.gateway.log().splitlines() if "probe_based" in line]
            mine = [words for words in lines if f"cell={cell}" in words]
            return all(any(f"probe={name}" in words for words in mine) for name in probes) or None

        wait_for(based, f"the counters of {cell} were never read", self.gateway)

    def events(self, name, cell="a"):
        path = self.gateway.events_path
        lines = path.read_text().split("\n")[:-1] if path.exists() else []
        events = [json.loads(line) for line in lines]
        events = [event["data"].get("event", event) for event in events]
        return [e for e in events
                if e["type"].endswith("." + name) and e["data"]["cellId"] == cell]

    def wait(self, name, accept=lambda event: True, cell="a"):
        """The first event of that type that is accepted."""
        return wait_for(lambda: next(filter(accept, self.events(name, cell)), None),
                        f"no such {name}", self.gateway)

    def probe(self, name, cell="a"):
        status, body = self.gateway.show(cell)
        assert status == 200
        return next(probe for probe in body["probes"] if probe["probe"] == name)

    def wait_probe(self, name, accept, cell="a"):
        return wait_for(lambda: (lambda p: p if accept(p) else None)(self.probe(name, cell)),
                        f"{name} is not so", self.gateway)

    def metric(self, name, **labels):
        text = self.gateway.ask("GET", "/metrics")[1]
        wanted = ",".join(f'{key}="{value}"' for key, value in labels.items())
        line = f"cellgate_{name}{{{wanted}}} " if labels else f"cellgate_{name} "
        return next(float(row[len(line):]) for row in text.splitlines() if row.startswith(line))

    def check_sequences(self):
        """Nothing is missing and nothing is there twice, by the program's own count."""
        keys = self.gateway.directory / "keys.json"
        keys.write_text("{}")
        answer = subprocess.run(
            [BINARY, "verify", "--keys", str(keys), "--gaps", str(self.gateway.events_path)],
            capture_output=True, text=True)
        assert "0 sequence numbers missing, 0 repeated" in answer.stderr, answer.stdout


def wait_for(look, complaint, gateway):
    deadline = time.monotonic() + 60
    while (found := look()) is None:
        assert time.monotonic() < deadline, complaint + "\n" + gateway.log()
        time.sleep(0.01)
    return found


def recorded_cgroup(host, name="vm"):
    directory = host.roots / name
    directory.mkdir()
    for file, text in RECORDED.items():
        (directory / file).write_text(text)
    return directory


# --- cgroup ---


def test_a_real_cgroup_is_read_while_a_process_works_in_it(tmp_path):
    with Host(tmp_path) as host, cgroup() as group:
        host.put(cgroup={"path": str(group)})
        first = host.wait("host.v1.cgroup")
        assert first["data"]["output"]["cpu_stat"]["usage_usec"] == 0
        worker = run_in(group, "sh", "-c", "while :; do :; done")
        try:
            busy = host.wait("host.v1.cgroup",
                             lambda e: e["data"]["output"]["cpu_stat"]["usage_usec"] > 10000)
        finally:
            worker.kill()
            worker.wait()
        data = busy["data"]
        assert list(data) == ["cellId", "hostReceivedAt", "inputs", "node", "output",
                              "probeSource", "runId", "sequence", "specSignatureHash"]
        assert busy["source"] == "cellos-host-telemetry/probes"
        assert busy["type"] == PREFIX + "host.v1.cgroup"
        assert busy["time"] == data["hostReceivedAt"]
        assert data["probeSource"] == "host.cgroup" and data["node"] == "node-1"
        assert data["inputs"]["cgroupLeaf"] == str(group)
        assert "cpu.stat" in data["inputs"]["files"] and data["inputs"]["trigger"] == "interval"
        real = dict(line.split() for line in (group / "cpu.stat").read_text().splitlines())
        assert set(data["output"]["cpu_stat"]) == set(real)
        for name in ("cpu", "memory", "io"):
            if (group / f"{name}.pressure").exists():
                assert set(data["output"][f"{name}_pressure"]["some"]) == {
                    "avg10", "avg60", "avg300", "total"}
        assert host.metric("probe_readings_total", probe="cgroup") >= 2
        assert host.metric("events_appended_total", kind="probe") >= 2
        host.check_sequences()


def test_the_end_of_the_last_process_is_told_at_once(tmp_path):
    with Host(tmp_path, interval=NEVER) as host, cgroup() as group:
        host.put(cgroup={"path": str(group)})
        worker = run_in(group, "sleep", "1000")
        start = host.wait("host.v1.cgroup",
                          lambda e: e["data"]["output"]["cgroup_events"]["populated"] == 1)
        assert start["data"]["inputs"]["trigger"] == "change"
        worker.kill()
        worker.wait()
        host.wait("host.v1.cgroup", lambda e: e["data"]["sequence"] > start["data"]["sequence"]
                  and e["data"]["output"]["cgroup_events"]["populated"] == 0)


def test_recorded_files_of_all_controllers_are_read_whole(tmp_path):
    with Host(tmp_path) as host:
        group = recorded_cgroup(host)
        host.put(cgroup={"path": str(group)})
        data = host.wait("host.v1.cgroup")["data"]
        output = data["output"]
        assert data["inputs"]["files"] == sorted(RECORDED)
        assert output["memory_events"] == {"low": 0, "high": 0, "max": 3, "oom": 0, "oom_kill": 0,
                                           "oom_group_kill": 0}
        assert output["memory_current"] == 268435456 and output["memory_peak"] == 301989888
        assert output["pids_current"] == 7 and output["pids_events"] == {"max": 0}
        assert output["io_stat"]["254:0"]["rbytes"] == 90430464
        assert output["memory_pressure"]["some"] == {"avg10": 0, "avg60": 13, "avg300": 150,
                                                     "total": 91231}
        assert output["io_pressure"]["full"]["avg300"] == 9
        assert "cpu_pressure" not in output
        assert host.probe("cgroup")["last_reading"]["output"] == output


def test_an_oom_kill_is_told_at_once_and_other_changes_are_not(tmp_path):
    with Host(tmp_path, interval=NEVER) as host:
        group = recorded_cgroup(host)
        cells = "a", "b"
        for cell in cells:
            assert host.gateway.put(cell, probes={"cgroup": {"path": str(group)}})[0] == 201
        events = {"low": 0, "high": 0, "max": 3, "oom": 0, "oom_kill": 0}

        def change(**counters):
            events.update(counters)
            write_whole(group / "memory.events", "".join(f"{k} {v}\n" for k, v in events.items()))

        def seen(cell):
            return [e["data"]["output"]["memory_events"] for e in host.events("host.v1.cgroup", cell)]

        def kill_until_told():
            change(oom_kill=events["oom_kill"] + 1)
            return True if all(map(seen, cells)) else None

        # The counters that a run begins with are no news, so the first kill may be one of them.
        wait_for(kill_until_told, "no kill is told", host.gateway)
        change(low=9)
        change(max=4)
        for cell in cells:
            event = host.wait("host.v1.cgroup", lambda e: e["data"]["output"]["memory_events"]["max"]
                              == 4, cell=cell)
            assert event["data"]["inputs"]["trigger"] == "change"
            told = [(e["oom_kill"], e["max"]) for e in seen(cell)]
            assert told == sorted(set(told)), "something was told that has not risen"


def test_what_is_missing_costs_a_line_and_a_count_and_comes_back(tmp_path):
    with Host(tmp_path) as host:
        path = host.roots / "later"
        host.put(cgroup={"path": str(path)})
        failed = host.wait_probe("cgroup", lambda p: p["errors"] >= 3)
        assert failed["failing"] and failed["last_error"]["reason"] == "missing"
        assert str(path) in failed["last_error"]["detail"]
        assert host.metric("probe_errors_total", probe="cgroup", reason="missing") >= 3
        recorded_cgroup(host, "later")
        host.wait_probe("cgroup", lambda p: p["readings"] >= 1 and not p["failing"])
        host.gateway.wait_log("event=probe_recovered")
        log = host.gateway.log()
        assert log.count("event=probe_failed") == 1
        line = next(l for l in log.splitlines() if "probe_failed" in l)
        assert "cell=a" in line and "probe=cgroup" in line and "reason=missing" in line


@pytest.mark.parametrize("what,reason", [("symlink", "denied"), ("fifo", "denied"),
                                         ("huge", "malformed"), ("garbage", "malformed"),
                                         ("inner symlink", "denied")])
def test_a_hostile_directory_is_an_error_of_its_cell_only(tmp_path, what, reason):
    with Host(tmp_path) as host:
        good = recorded_cgroup(host, "good")
        bad = host.roots / "bad"
        if what == "symlink":
            bad.symlink_to("/etc")
        else:
            bad.mkdir()
        if what == "fifo":
            os.mkfifo(bad / "cpu.stat")
        elif what == "huge":
            (bad / "cpu.stat").write_text("usage_usec 1\n" * 5000)
        elif what == "garbage":
            (bad / "cpu.stat").write_bytes(b"\x00\xff\x1b[31m 1\n")
        elif what == "inner symlink":
            (bad / "cpu.stat").symlink_to("/etc/passwd")
        host.put("a", cgroup={"path": str(bad)})
        host.put("b", cgroup={"path": str(good)})
        failed = host.wait_probe("cgroup", lambda p: p["errors"] >= 1)
        assert failed["last_error"]["reason"] == reason and failed["readings"] == 0
        host.wait("host.v1.cgroup", cell="b")


# --- fc_metrics ---


def test_documents_of_a_fifo_become_events_one_each(tmp_path):
    with Host(tmp_path) as host:
        fifo = host.roots / "metrics.fifo"
        os.mkfifo(fifo)
        host.put(fc_metrics={"path": str(fifo)})
        wait_open(host.gateway, fifo)
        with Firecracker(host.roots / "api", fifo) as vmm:
            # Cut anywhere, many to a write, as pipes do.
            text = metrics(1) + metrics(2, net={"tx_packets_count": 5}) + metrics(3)
            for at in range(0, len(text), 701):
                vmm.write(text[at:at + 701])
            vmm.write('{"utc_timestamp_ms":9,"cut":{"of' + metrics(4))
            vmm.write("no document\n\n")
            vmm.write(metrics(5, vcpu={"load": 1.75}))
            last = host.wait("host.v1.fc_metrics", lambda e: e["data"]["output"]["metrics"]
                             ["utc_timestamp_ms"] == 1_700_000_000_005)
        seen = [e["data"]["output"]["metrics"]["utc_timestamp_ms"] - 1_700_000_000_000
                for e in host.events("host.v1.fc_metrics")]
        assert seen == [1, 2, 3, 4, 5]
        assert last["data"]["output"]["metrics"]["vcpu"]["load"] == 1
        inputs = last["data"]["inputs"]
        assert inputs["fractions"] == "truncated" and inputs["fractionsTruncated"] == 1
        assert inputs["endpoint"] == str(fifo) and inputs["kind"] == "firecracker.metrics"
        assert host.probe("fc_metrics")["last_error"]["reason"] == "malformed"
        host.check_sequences()


def test_a_file_is_followed_over_its_end_its_beginning_and_another_one(tmp_path):
    with Host(tmp_path) as host:
        path = host.roots / "metrics.json"
        path.write_text(metrics(1))  # before the run: not its own
        host.put(fc_metrics={"path": str(path)})
        wait_for(lambda: host.gateway.show("a")[1]["probes"] or None, "not joined", host.gateway)

        def wait_number(number):
            return host.wait("host.v1.fc_metrics", lambda e: e["data"]["output"]["metrics"]
                             ["utc_timestamp_ms"] == 1_700_000_000_000 + number)

        wait_open(host.gateway, path)
        with open(path, "a") as file:
            file.write(metrics(2) + metrics(3)[:50])
            file.flush()
            wait_number(2)
            file.write(metrics(3)[50:])
        wait_number(3)
        write_whole(path, metrics(4))  # cut off, and begun anew
        wait_number(4)
        with open(path, "a") as file:
            file.write(metrics(5))
        path.rename(host.roots / "metrics.old")
        path.write_text(metrics(6))
        wait_number(5)
        wait_number(6)
        path.unlink()
        host.wait_probe("fc_metrics", lambda p: p["failing"])
        path.write_text(metrics(7))
        wait_number(7)
        seen = [e["data"]["output"]["metrics"]["utc_timestamp_ms"] - 1_700_000_000_000
                for e in host.events("host.v1.fc_metrics")]
        assert seen == [2, 3, 4, 5, 6, 7]


def wait_open(gateway, path):
    def look():
        base = f"/proc/{gateway.process.pid}/fd"
        for fd in os.listdir(base):
            try:
                if os.readlink(f"{base}/{fd}") == str(path):
                    return True
            except OSError:
                pass
        return None
    wait_for(look, f"{path} is not open", gateway)


def test_lines_without_end_are_given_up_and_many_documents_counted(tmp_path):
    with Host(tmp_path, interval=NEVER) as host:
        path = host.roots / "metrics.json"
        path.write_text("")
        host.put(fc_metrics={"path": str(path)})
        wait_open(host.gateway, path)
        path.open("a").write("x" * 200_000 + "\n" + "".join(metrics(i) for i in range(20)))
        status, _ = host.gateway.delete("a")  # the end of the run reads once more
        assert status == 200
        events = wait_for(lambda: (lambda e: e if len(e) == 8 else None)(
            host.events("host.v1.fc_metrics")), "not 8 documents", host.gateway)
        assert [e["data"]["inputs"]["skipped"] for e in events] == [12] + [0] * 7
        assert events[-1]["data"]["output"]["metrics"]["utc_timestamp_ms"] == 1_700_000_000_019
        assert events[-1]["data"]["inputs"]["trigger"] == "end"
        assert host.metric("probe_errors_total", probe="fc_metrics", reason="malformed") == 1


def test_a_document_is_asked_for_and_read_when_that_is_answered(tmp_path):
    with Host(tmp_path) as host:
        fifo, api = host.roots / "metrics.fifo", host.roots / "api.sock"
        os.mkfifo(fifo)
        with Firecracker(api, fifo) as vmm:
            host.put(fc_metrics={"path": str(fifo), "api_socket": str(api), "flush": True})
            host.wait_probe("fc_metrics", lambda p: p["readings"] >= 3)
            events = host.events("host.v1.fc_metrics")
            assert all(event["data"]["inputs"]["flushed"] for event in events)
            request = vmm.requests[0]
            assert request.startswith("PUT /actions HTTP/1.1\r\n")
            head, body = request.split("\r\n\r\n")
            assert json.loads(body) == {"action_type": "FlushMetrics"}
            assert f"Content-Length: {len(body)}" in head
            assert "Content-Type: application/json" in head


@pytest.mark.parametrize("behave,reason", [("hang", "timeout"), ("refuse", "unreadable"),
                                           ("garbage", "malformed"), ("gone", "missing")])
def test_a_vmm_that_does_not_answer_well_costs_its_own_reading_only(tmp_path, behave, reason):
    with Host(tmp_path, deadline="100ms" if behave == "hang" else "30s") as host:
        fifo, api = host.roots / "metrics.fifo", host.roots / "api.sock"
        os.mkfifo(fifo)
        group = recorded_cgroup(host)
        with Firecracker(api, fifo, "well" if behave == "gone" else behave) as vmm:
            path = str(host.roots / "nothing") if behave == "gone" else str(api)
            host.put("a", fc_metrics={"path": str(fifo), "api_socket": path, "flush": True})
            host.put("b", cgroup={"path": str(group)})
            failed = host.wait_probe("fc_metrics", lambda p: p["errors"] >= 2)
            assert failed["last_error"]["reason"] == reason
            host.wait_probe("cgroup", lambda p: p["readings"] >= 5, cell="b")
            # What it writes by itself is read all the same.
            vmm.write(metrics(77))
            event = host.wait("host.v1.fc_metrics")
            assert event["data"]["inputs"]["flushed"] is False
            assert host.gateway.delete("a")[0] == 200


# --- tap_link and nftables ---

TABLE = """table inet cell_a {
  chain in {
    type filter hook input priority 0; policy accept;
    udp dport 7 counter comment "echo"
    tcp dport 9 drop
  }
}
table ip other {
  chain c {
    counter
  }
}
"""


def test_a_real_interface_is_read_and_its_changes_are_told_at_once(tmp_path):
    with Network() as network, Host(tmp_path) as host:
        host.put(tap_link={"interface": network.tap, "netns": network.path})
        host.gateway.put("b", run_id="run-2", probes={
            "tap_link": {"interface": network.tap, "netns": network.path, "interval_ms": 3600000}})
        host.wait("host.v1.tap_link")
        network.send_from_guest(25)
        seen = host.wait("host.v1.tap_link",
                         lambda e: e["data"]["output"]["rxPackets"] >= 25)
        output = seen["data"]["output"]
        assert set(output) == {"operstate", "carrier", "rxPackets", "txPackets", "rxBytes",
                               "txBytes", "rxDropped", "txDropped", "rxErrors", "txErrors"}
        assert output["operstate"] == "up" and output["carrier"] == "1"
        assert output["rxBytes"] >= 25 * 52
        assert seen["data"]["inputs"] == {"iface": network.tap, "netns": network.path,
                                          "source": "rtnetlink", "trigger": "interval"}
        network.in_host("link", "set", network.tap, "down")
        down = host.wait("host.v1.tap_link", lambda e: e["data"]["output"]["operstate"] == "down",
                         cell="b")
        assert down["data"]["inputs"]["trigger"] == "change"
        network.in_host("link", "delete", network.tap)
        host.wait_probe("tap_link", lambda p: p["failing"]
                        and p["last_error"]["reason"] == "missing", cell="b")


def test_an_interface_of_the_gateways_own_namespace_is_read(tmp_path):
    with Host(tmp_path) as host:
        host.put(tap_link={"interface": "lo"})
        event = host.wait("host.v1.tap_link")
        assert event["data"]["inputs"]["iface"] == "lo"
        assert "netns" not in event["data"]["inputs"]


def test_the_counters_of_a_real_table_follow_the_traffic(tmp_path):
    with Network() as network, Host(tmp_path) as host:
        network.nft(TABLE)
        host.put(nftables={"table": "cell_a", "netns": network.path})
        host.gateway.put("b", run_id="run-2", probes={
            "nftables": {"table": "other", "family": "ip", "netns": network.path}})
        host.gateway.put("c", run_id="run-3", probes={
            "nftables": {"table": "none", "netns": network.path}})
        network.send_from_guest(40)
        event = host.wait("host.v1.nftables", lambda e: e["data"]["output"]["packets"] >= 40)
        output = event["data"]["output"]
        assert len(output["rows"]) == 1
        row = output["rows"][0]
        assert set(row) == {"family", "table", "chain", "handle", "packets", "bytes", "ruleRepr"}
        assert row["table"] == "cell_a" and row["chain"] == "in" and row["packets"] == 40
        assert row["bytes"] == 40 * 38 == output["bytes"]
        assert json.loads(row["ruleRepr"])[0]["match"]["right"] == 7
        assert event["data"]["inputs"]["family"] == "inet"
        other = host.wait("host.v1.nftables", cell="b")
        assert other["data"]["output"]["rows"][0]["table"] == "other"
        failed = host.wait_probe("nftables", lambda p: p["errors"] >= 1, cell="c")
        assert failed["last_error"]["reason"] == "missing"


def test_a_namespace_made_anew_is_found_again(tmp_path):
    with Host(tmp_path) as host:
        with Network() as network:
            network.nft(TABLE)
            name, path = network.host, network.path
            host.put(tap_link={"interface": network.tap, "netns": path},
                     nftables={"table": "cell_a", "netns": path})
            host.wait("host.v1.tap_link")
            host.wait("host.v1.nftables")
        for probe in "tap_link", "nftables":
            host.wait_probe(probe, lambda p: p["failing"])
        with Network() as again:
            again.rename(name)
            again.nft(TABLE)
            for probe in "tap_link", "nftables":
                host.wait_probe(probe, lambda p: not p["failing"])


# --- corroboration ---


def test_a_guest_that_hides_its_traffic_is_contradicted(tmp_path):
    with Network() as network, Host(
            tmp_path, corroboration={"interval": "200ms", "packets_min": 10}) as host:
        network.nft(TABLE)
        network.send_from_guest(50)  # before the run: not its own
        host.put(tap_link={"interface": network.tap, "netns": network.path},
                 nftables={"table": "cell_a", "netns": network.path})
        wait_for(lambda: host.gateway.show("a")[1]["probes"] or None, "not joined", host.gateway)
        host.wait("host.v1.tap_link")
        with Guest(host.gateway.base_of("a")) as guest:
            guest.send_many(3, probe_source="process.spawned")
            network.send_from_guest(30)
            found = host.wait("corroboration", lambda e: e["data"]["findings"]
                              and e["data"]["declared"]["events"] == 3
                              and e["data"]["observed"]["nftables"]["packets"] == 30)
        assert found["type"] == PREFIX + "v1.corroboration"
        data = found["data"]
        packets = data["observed"]["tapLink"]["packetsFromGuest"]
        assert 30 <= packets < 80
        assert data["findings"] == [{
            "declared": 0, "observed": packets, "rule": "network_undeclared", "threshold": 10,
            "text": f"declared net.connect_attempted = 0, host saw {packets:,} packets out"}]
        assert data["declared"] == {"bySource": {"process.spawned": 3}, "events": 3,
                                    "otherSources": 0}
        assert data["observed"]["gateway"]["frames"] == 3
        assert data["provenance"] == "observed" and data["runOver"] is False
        assert host.metric("corroborations_with_findings_total") >= 1


def test_the_end_of_a_run_has_the_last_word_of_each_witness(tmp_path):
    with Network() as network, cgroup() as group, Host(tmp_path, interval=NEVER) as host:
        network.nft(TABLE)
        fifo, api = host.roots / "metrics.fifo", host.roots / "api.sock"
        os.mkfifo(fifo)
        with Firecracker(api, fifo):
            host.put(cgroup={"path": str(group)},
                     tap_link={"interface": network.tap, "netns": network.path},
                     nftables={"table": "cell_a", "netns": network.path},
                     fc_metrics={"path": str(fifo), "api_socket": str(api), "flush": True})
            with Guest(host.gateway.base_of("a")) as guest:
                guest.send_many(4, probe_source="net.connect_attempted")
                network.send_from_guest(20)
            status, totals = host.gateway.delete("a")
        assert status == 200 and totals["frames"] == 4
        host.wait("run_ended")
        lines = host.gateway.events_path.read_text().splitlines()
        events = [json.loads(line) for line in lines]
        names = [event["type"].removeprefix(PREFIX) for event in events]
        assert names[-2:] == ["v1.corroboration", "v1.run_ended"]
        for probe in "cgroup", "tap_link", "nftables", "fc_metrics":
            assert f"host.v1.{probe}" in names[:-2]
        data = events[-2]["data"]
        assert data["runOver"] is True and data["findings"] == []
        assert data["declared"]["bySource"] == {"net.connect_attempted": 4}
        assert data["observed"]["nftables"]["packets"] == 20
        assert data["observed"]["tapLink"]["packetsFromGuest"] >= 20
        assert data["observed"]["fcMetrics"]["vsockTxBytes"] == 128
        assert events[-1]["data"]["lastSequence"] == totals["last_sequence"]
        host.check_sequences()


# --- registration, defaults, signatures, the end ---


def test_probes_of_a_registration_are_checked_and_kept(tmp_path):
    with Host(tmp_path) as host:
        gateway = host.gateway
        group = recorded_cgroup(host)
        cases = [
            ({"gpu": {}}, 422, "probes"),
            ({"cgroup": {"path": "relative"}}, 422, "probes"),
            ({"cgroup": {"path": str(group) + "/../x"}}, 422, "probes"),
            ({"cgroup": {"path": "/etc"}}, 403, "probes"),
            ({"tap_link": {"interface": "lo", "netns": "/proc/1/ns/net"}}, 403, "probes"),
            ({"tap_link": {"interface": "a-name-that-is-too-long"}}, 422, "probes"),
        ]
        for probes, status, member in cases:
            got, body = gateway.put("a", probes=probes)
            assert (got, body.get("member")) == (status, member), (probes, body)
        probes = {"cgroup": {"path": str(group), "interval_ms": 60000}}
        assert gateway.put("a", probes=probes)[0] == 201
        assert gateway.put("a", probes={**probes, "tap_link": {}})[0] == 200
        status, body = gateway.put("a", probes={"cgroup": {"path": str(group)}})
        assert status == 409 and body["member"] == "probes"
        assert gateway.put("a")[0] == 409
        assert host.probe("cgroup")["interval_ms"] == 60000
        gateway.kill()
        gateway.start()
        assert host.probe("cgroup")["interval_ms"] == 60000
        assert gateway.put("a", probes=probes)[0] == 200


def test_defaults_look_at_the_same_place_for_each_cell(tmp_path):
    with Host(tmp_path, cgroup={"path": str(tmp_path / "roots" / "vm-{cell_id}")},
              tap_link={"enabled": False, "interface": "lo"}) as host:
        recorded_cgroup(host, "vm-one")
        recorded_cgroup(host, "vm-two")
        assert host.gateway.put("one")[0] == 201
        assert host.gateway.put("two")[0] == 201
        for cell in "one", "two":
            event = host.wait("host.v1.cgroup", cell=cell)
            assert event["data"]["inputs"]["cgroupLeaf"].endswith(f"/vm-{cell}")
            assert [p["probe"] for p in host.gateway.show(cell)[1]["probes"]] == ["cgroup"]


def test_a_default_that_is_nothing_for_a_cell_is_said_and_left_out(tmp_path):
    with Host(tmp_path, tap_link={"interface": "tap-{cell_id}"}) as host:
        assert host.gateway.put("a-long-name-of-a-cell")[0] == 201
        line = host.gateway.wait_log("event=probes_off")
        assert "a-long-name-of-a-cell" in line and "tap_link.interface" in line
        assert host.gateway.show("a-long-name-of-a-cell")[1]["probes"] == []


def test_configured_cells_have_probes_too_and_none_costs_nothing(tmp_path):
    group = tmp_path / "vm"
    group.mkdir()
    (group / "cpu.stat").write_text("usage_usec 7\n")
    gateway = ControlledGateway(tmp_path, cells=2, start=False,
                                config={"probes": {"interval": "100ms"}})
    gateway.config["ingress"]["cells"][0]["probes"] = {"cgroup": {"path": str(group)}}
    with gateway:
        gateway.start()
        wait_for(lambda: [e for e in gateway.events()
                          if e["data"].get("output") == {"cpu_stat": {"usage_usec": 7}}] or None,
                 "no reading", gateway)
        assert gateway.show("cell-1")[1]["probes"] == []


@pytest.mark.parametrize("config,kept", [
    ({}, 0),
    ({"nftables": {"enabled": True}}, 1 << 12),
    ({"netns": True}, 1 << 21),
])
def test_only_the_capabilities_that_probes_are_given_are_kept(tmp_path, config, kept):
    if os.geteuid() != 0:
        pytest.skip("who is not root has no capabilities to keep")
    with ControlledGateway(tmp_path, config={"probes": config}) as gateway:
        line = gateway.wait_log("event=sandbox ")
        assert f" capabilities={kept} " in line
        status = open(f"/proc/{gateway.process.pid}/status").read()
        assert int(re.search(r"CapEff:\s+(\w+)", status)[1], 16) == kept


def test_a_namespace_is_denied_unless_probes_may_enter_any(tmp_path):
    with Host(tmp_path, netns=False) as host:
        host.put(tap_link={"interface": "lo", "netns": "/run/netns/any"})
        failed = host.wait_probe("tap_link", lambda p: p["errors"] >= 1)
        assert failed["last_error"]["reason"] == "denied"
        assert "probes.netns" in failed["last_error"]["detail"]


def test_readings_are_signed_and_verify(tmp_path):
    key = tmp_path / "k.key"
    subprocess.run([BINARY, "keygen", "--kid", "k", "--out", str(tmp_path)], check=True)
    with Host(tmp_path, config={"signing": {"mode": "ed25519", "kid": "k",
                                            "key_file": str(key)}}) as host:
        group = recorded_cgroup(host)
        host.put(cgroup={"path": str(group)})
        host.wait_probe("cgroup", lambda p: p["readings"] >= 3)
        assert host.gateway.delete("a")[0] == 200
        host.wait("run_ended")
        answer = subprocess.run(
            [BINARY, "verify", "--keys", str(tmp_path / "k.keys.json"), "--gaps",
             str(host.gateway.events_path)], capture_output=True, text=True)
        assert answer.returncode == 0, answer.stdout + answer.stderr
        assert not re.search(r"^fail", answer.stdout, re.MULTILINE)


def test_cells_come_and_go_while_their_probes_read(tmp_path):
    with Host(tmp_path, interval="100ms") as host:
        recorded_cgroup(host)
        fifo = host.roots / "metrics.fifo"
        os.mkfifo(fifo)
        api = host.roots / "api.sock"
        with Firecracker(api, fifo):
            probes = {"cgroup": {"path": str(host.roots / "vm")},
                      "tap_link": {"interface": "lo"},
                      "fc_metrics": {"path": str(fifo), "api_socket": str(api), "flush": True}}

            def come_and_go(number):
                for turn in range(5):
                    cell = f"cell-{number}"
                    assert host.gateway.put(cell, run_id=f"run-{turn}", probes=probes)[0] == 201
                    assert host.gateway.delete(cell)[0] == 200

            threads = [threading.Thread(target=come_and_go, args=(n,)) for n in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        wait_for(lambda: True if sum(len(host.events("run_ended", f"cell-{n}"))
                                     for n in range(6)) == 30 else None,
                 "not all runs ended", host.gateway)
        host.check_sequences()
        assert host.gateway.stop() == 0
