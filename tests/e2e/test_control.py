"""Cells come and go over the control socket of the real binary."""

import contextlib
import http.client
import json
import pathlib
import os
import resource
import signal
import socket
import stat
import subprocess
import threading

import pytest
from support.control import ControlledGateway
from support.gateway import BINARY, QUICK_RETRY
from support.guest import Guest
from support.http_sink import Answer, HttpSink


@pytest.fixture
def gateway(tmp_path):
    with ControlledGateway(tmp_path) as running:
        yield running


def wait_for(gateway, path, condition):
    """Asks until the answer is as wanted; the gateway's own time limits end it otherwise."""
    for _ in range(100000):
        status, body, _ = gateway.ask("GET", path)
        if condition(status, body):
            return body
    raise AssertionError(f"{path}: {status} {body}")


# --- the round of a cell's life ---


def test_a_cell_is_heard_from_its_registration_to_its_end(gateway):
    status, answer = gateway.put("cell-a", labels={"team": "blue"}, keepalive_ms=5000)
    assert (status, answer["created"]) == (201, True)
    assert answer["socket"] == gateway.base_of("cell-a") + "_9001"
    status, cell = gateway.show("cell-a")
    assert status == 200 and cell["state"] == "waiting"
    assert (cell["labels"], cell["keepalive_ms"]) == ({"team": "blue"}, 5000)
    with Guest(gateway.base_of("cell-a")) as guest:
        guest.send_many(10)
        cell = wait_for(gateway, "/v1/cells/cell-a", lambda _, body: body["frames"] == 10)
        assert (cell["state"], cell["connections"], cell["connections_opened"]) == ("live", 1, 1)
        assert gateway.ask("POST", "/v1/flush?cell=cell-a")[0] == 200
        status, cell = gateway.show("cell-a")
        assert cell["acknowledged"][0]["sequence"] >= 10
        guest.send_many(5)
        status, totals = gateway.delete("cell-a", "?wait=30s")
        assert status == 200 and totals["frames"] == 15
        assert guest.wait_end()
    events = [event for event in gateway.events() if event["data"]["cellId"] == "cell-a"]
    assert [event["data"]["host"]["sequence"] for event in events] == list(
        range(1, totals["last_sequence"] + 1)
    )
    assert events[-1]["type"].endswith("run_ended")
    assert events[-1]["data"]["frames"] == 15
    assert gateway.show("cell-a")[0] == 404
    assert not os.path.lexists(gateway.base_of("cell-a") + "_9001")


def test_the_same_registration_again_changes_nothing(gateway):
    assert gateway.put("cell-a", labels={"a": "1", "b": "2"})[0] == 201
    inode = os.stat(gateway.base_of("cell-a") + "_9001").st_ino
    for labels in ({"a": "1", "b": "2"}, {"b": "2", "a": "1"}):
        status, answer = gateway.put("cell-a", labels=labels)
        assert (status, answer["created"]) == (200, False)
    assert os.stat(gateway.base_of("cell-a") + "_9001").st_ino == inode


@pytest.mark.parametrize(
    "members, member",
    [
        ({"run_id": "run-2"}, "cell_id"),
        ({"spec_signature_hash": "sha256:01"}, "spec_signature_hash"),
        ({"keepalive_ms": 1}, "keepalive_ms"),
        ({"labels": {"a": "b"}}, "labels"),
    ],
)
def test_another_registration_for_a_live_cell_is_a_conflict(gateway, members, member):
    gateway.put("cell-a")
    status, problem = gateway.put("cell-a", **members)
    assert (status, problem["member"]) == (409, member)
    assert gateway.show("cell-a")[1]["run_id"] == "run-1"


def test_the_path_of_another_cell_is_a_conflict(gateway):
    gateway.put("cell-a")
    status, problem = gateway.put("cell-b", vsock_uds_base=gateway.base_of("cell-a"))
    assert (status, problem["member"]) == (409, "vsock_uds_base")
    assert gateway.show("cell-b")[0] == 404


def test_a_run_that_has_ended_does_not_come_back(gateway):
    gateway.put("cell-a")
    assert gateway.delete("cell-a")[0] == 200
    status, problem = gateway.put("cell-a")
    assert (status, problem["member"]) == (409, "run_id")
    assert problem["detail"] == "this run of the cell has ended before"
    assert gateway.put("cell-a", run_id="run-2")[0] == 201


def test_a_cell_of_the_configuration_stays(tmp_path):
    with ControlledGateway(tmp_path, cells=1) as gateway:
        assert gateway.delete("cell-0")[0] == 409
        assert gateway.show("cell-0")[0] == 200


def test_what_is_not_there_is_not_found(gateway):
    assert gateway.delete("cell-a")[0] == 404
    assert gateway.show("cell-a")[0] == 404
    assert gateway.ask("POST", "/v1/flush?cell=cell-a")[0] == 404


def test_a_cell_that_floods_is_removed_all_the_same(gateway):
    gateway.put("cell-a")
    guest = Guest(gateway.base_of("cell-a"))

    def flood():
        with contextlib.suppress(OSError):
            while True:
                guest.send_many(100)

    thread = threading.Thread(target=flood)
    thread.start()
    wait_for(gateway, "/v1/cells/cell-a", lambda _, body: body["frames"] > 1000)
    status, totals = gateway.delete("cell-a", "?wait=60s")
    assert status == 200 and totals["frames"] > 1000
    thread.join()
    guest.close()
    assert gateway.show("cell-a")[0] == 404
    sequences = [event["data"]["host"]["sequence"] for event in gateway.events()]
    assert sequences == list(range(1, totals["last_sequence"] + 1))


# --- bad input ---

REQUIRED = '"run_id":"r","spec_signature_hash":"s","vsock_uds_base":"/x"'


@pytest.mark.parametrize(
    "body, status, member",
    [
        ("", 400, None),
        ("no JSON", 400, None),
        ("{" + REQUIRED + "} {}", 400, None),
        ("{" + REQUIRED + ',"run_id":"q"}', 400, "run_id"),
        ("{" + REQUIRED + ',"colour":"red"}', 422, "colour"),
        ("{" + REQUIRED + ',"keepalive_ms":"10"}', 422, "keepalive_ms"),
        ("{" + REQUIRED + ',"owner":[1,2]}', 422, "owner"),
        ("{" + REQUIRED + ',"mode":"9999"}', 422, "mode"),
        ('{"run_id":"a\\u0000","spec_signature_hash":"s","vsock_uds_base":"/x"}', 422, "run_id"),
        (b'{"run_id":"\xff"}', 400, None),
        ("[]", 422, None),
        ("[" * 1000, 400, None),
    ],
)
def test_a_body_that_is_no_registration_names_what_is_wrong(gateway, body, status, member):
    got, problem = gateway.put_body("cell-a", body)
    assert (got, problem.get("member")) == (status, member)
    assert gateway.show("cell-a")[0] == 404


@pytest.mark.parametrize("content_type", ["text/plain", "application/jsonx", ""])
def test_a_registration_is_json(gateway, content_type):
    assert gateway.put_body("cell-a", "{}", content_type)[0] == 415


def test_a_json_type_may_have_parameters(gateway):
    body = json.dumps(gateway.registration("cell-a"))
    assert gateway.put_body("cell-a", body, "Application/JSON; charset=utf-8")[0] == 201


@pytest.mark.parametrize("cell", ["a%2Fb", "a/b", "..", "a%20b", "x" * 129, "%C3%A9", ""])
def test_an_id_that_is_none_is_refused(gateway, cell):
    body = json.dumps(gateway.registration("other"))
    status, problem = gateway.put_body(cell, body)
    assert (status, problem["member"]) == (422, "cell_id")
    assert not os.path.lexists(gateway.base_of("other") + "_9001")


def test_a_nul_in_the_path_is_no_shorter_path(gateway):
    body = json.dumps(gateway.registration("cell-a")).encode()
    with contextlib.closing(connect(gateway)) as client:
        client.sendall(head("PUT", "/v1/cells/cell-a%00b", length=len(body)) + body)
        assert read_status(client) == 400
    assert gateway.ask("GET", "/livez%00x")[0] == 400
    assert gateway.show("cell-a")[0] == 404


@pytest.mark.parametrize(
    "where, status",
    [
        ("{root}/missing/a.vsock", 422),
        ("{root}/real/file/a.vsock", 422),
        ("/elsewhere/a.vsock", 403),
        ("{root}-not/a.vsock", 403),
        ("{root}/../a.vsock", 422),
        ("{root}/link/a.vsock", 422),
        ("{root}/" + "a" * 4096, 422),
        ("relative", 422),
    ],
)
def test_a_path_where_no_socket_may_be_is_refused(gateway, where, status):
    os.mkdir(f"{gateway.root}/real")
    os.symlink(f"{gateway.root}/real", f"{gateway.root}/link")
    open(f"{gateway.root}/real/file", "x").close()
    status_got, problem = gateway.put("cell-a", vsock_uds_base=where.format(root=gateway.root))
    assert (status_got, problem["member"]) == (status, "vsock_uds_base")
    assert gateway.show("cell-a")[0] == 404
    assert os.listdir(f"{gateway.root}/real") == ["file"]


def test_a_socket_that_is_there_is_not_taken(gateway):
    path = gateway.base_of("cell-a") + "_9001"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        inode = os.stat(path).st_ino
        status, problem = gateway.put("cell-a")
        assert (status, problem["member"]) == (409, "vsock_uds_base")
        assert path in problem["detail"]
        assert os.stat(path).st_ino == inode
    os.unlink(path)
    assert gateway.put("cell-a")[0] == 201


def test_an_owner_outside_the_configured_ones_is_forbidden(gateway):
    status, problem = gateway.put("cell-a", owner={"uid": 0, "gid": 0})
    assert status == 403 and problem["member"].startswith("owner")


def test_a_large_body_is_refused_before_it_is_read(gateway):
    with contextlib.closing(connect(gateway)) as client:
        client.sendall(head("PUT", "/v1/cells/a", length=65537))
        assert read_status(client) == 413  # and not a byte of the body was sent


def test_a_body_of_chunks_that_grows_too_large_is_refused_at_its_end(gateway):
    with contextlib.closing(connect(gateway)) as client:
        client.sendall(head("PUT", "/v1/cells/a", chunked=True))
        for _ in range(70):
            client.sendall(b"400\r\n" + b" " * 1024 + b"\r\n")
        client.sendall(b"0\r\n\r\n")
        assert read_status(client) == 413
        # It was read whole, so the connection goes on.
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_status(client) == 200


@pytest.mark.parametrize(
    "path",
    ["/v1/cells?limit=0", "/v1/cells?limit=1001", "/v1/cells?limit=x", "/v1/cells?state=dead"],
)
def test_arguments_of_the_list_are_checked(gateway, path):
    status, problem, _ = gateway.ask("GET", path)
    assert status == 400 and problem["member"] in path


@pytest.mark.parametrize("text", ["30", "1h", "-1s", "", "11m"])
def test_durations_are_checked(gateway, text):
    assert gateway.ask("POST", f"/v1/flush?timeout={text}")[1]["member"] == "timeout"
    assert gateway.delete("cell-a", f"?wait={text}")[1]["member"] == "wait"


@pytest.mark.parametrize(
    "method, path, status, allow",
    [
        ("POST", "/v1/cells/a", 405, "GET, HEAD, PUT, DELETE"),
        ("GET", "/v1/flush", 405, "POST"),
        ("PUT", "/v1/cells", 405, "GET, HEAD"),
        ("POST", "/livez", 405, "GET, HEAD"),
        ("PUT", "/v1/reload", 405, "POST"),
    ],
)
def test_methods_are_told_apart(gateway, method, path, status, allow):
    got, _, headers = gateway.ask(method, path)
    assert (got, headers["allow"]) == (status, allow)


def test_the_public_listener_registers_nobody(gateway):
    for method in ("PUT", "DELETE"):
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(gateway.public)
        connection.request(method, "/v1/cells/a")
        assert connection.getresponse().status == 405
        connection.close()


def test_the_socket_is_for_its_group_only(tmp_path):
    old = os.umask(0o077)
    try:
        with ControlledGateway(tmp_path, config={"control": {"group": str(os.getgid())}}) as gateway:
            info = os.stat(gateway.socket)
            assert stat.S_IMODE(info.st_mode) == 0o660 and info.st_gid == os.getgid()
            assert gateway.stop() == 0
            assert not os.path.lexists(gateway.socket)
    finally:
        os.umask(old)


# --- the list ---


def walk(gateway, limit, **query):
    ids, after = [], ""
    while after is not None:
        arguments = "".join(f"&{key}={value}" for key, value in query.items())
        _, page, _ = gateway.ask("GET", f"/v1/cells?limit={limit}&after={after}{arguments}")
        ids += [cell["cell_id"] for cell in page["cells"]]
        after = page["next"]
    return ids


def test_pages_show_every_cell_once_and_in_order(tmp_path):
    with ControlledGateway(tmp_path, cells=25) as gateway:
        expected = sorted(f"cell-{i}" for i in range(25))
        for limit in (1, 7, 25, 1000):
            assert walk(gateway, limit) == expected
        with Guest(gateway.base(3)) as guest:
            guest.send()
            wait_for(gateway, "/v1/cells/cell-3", lambda _, body: body["state"] == "live")
            assert walk(gateway, 5, state="live") == ["cell-3"]
            assert walk(gateway, 5, state="waiting") == [i for i in expected if i != "cell-3"]


def test_reading_pages_are_there_on_both_listeners(gateway):
    for path in ("/healthz", "/v1/exporters", "/v1/cells", "/livez", "/readyz?verbose", "/"):
        assert gateway.ask("GET", path)[0] == 200
        assert gateway.get(path)[0] == 200
    assert "exporter   file (jsonl): idle" in gateway.get("/")[1]


# --- waiting for exporters ---


@pytest.fixture
def refusing(tmp_path):
    """A gateway whose only destination answers 503 until it is told otherwise."""
    with HttpSink() as sink:
        sink.policy = lambda _: Answer(503)
        exporters = [
            {
                "name": "sink",
                "type": "cloudevents-http",
                "url": sink.url,
                "batch": {"linger": "0s"},
                "retry": QUICK_RETRY,
            }
        ]
        with ControlledGateway(tmp_path, exporters=exporters, cells=1) as gateway:
            yield gateway, sink


def test_a_flush_that_is_not_done_in_time_tells_the_backlog(refusing):
    gateway, sink = refusing
    assert gateway.ask("POST", "/v1/flush?timeout=0s")[0] == 200  # there is nothing
    with Guest(gateway.base()) as guest:
        guest.send_many(20)
        wait_for(gateway, "/v1/cells/cell-0", lambda _, body: body["frames"] == 20)
        status, problem, _ = gateway.ask("POST", "/v1/flush?timeout=100ms")
        assert status == 504
        (left,) = problem["backlog"]
        assert left["exporter"] == "sink" and left["events"] >= 20
        assert problem["result"] == {"exporters": ["sink"]}
        acknowledged = gateway.show("cell-0")[1]["acknowledged"]
        assert acknowledged == [{"exporter": "sink", "sequence": 0, "caught_up": False}]
        sink.policy = lambda _: None
        assert gateway.ask("POST", "/v1/flush?timeout=30s&cell=cell-0")[0] == 200
        (acknowledged,) = gateway.show("cell-0")[1]["acknowledged"]
        assert acknowledged["sequence"] >= 20 and acknowledged["caught_up"]


def test_a_delete_that_waits_in_vain_has_removed_the_cell_all_the_same(refusing):
    gateway, _ = refusing
    gateway.put("cell-a")
    with Guest(gateway.base_of("cell-a")) as guest:
        guest.send_many(3)
        status, problem = gateway.delete("cell-a", "?wait=50ms")
    assert status == 504 and problem["backlog"][0]["events"] > 3
    assert problem["result"]["frames"] == 3
    assert gateway.show("cell-a")[0] == 404


def test_many_who_wait_hold_nobody_up(refusing):
    gateway, sink = refusing
    with Guest(gateway.base()) as guest:
        guest.send()
        wait_for(gateway, "/v1/cells/cell-0", lambda _, body: body["frames"] == 1)
        waiting = [connect(gateway) for _ in range(100)]
        for client in waiting:
            client.sendall(b"POST /v1/flush?timeout=60s HTTP/1.1\r\nHost: x\r\n\r\n")
        assert gateway.ask("GET", "/livez")[0] == 200
        assert gateway.put("cell-a")[0] == 201
        sink.policy = lambda _: None
        for client in waiting:
            assert read_status(client) == 200
            client.close()


def test_stopping_answers_who_waits(refusing):
    gateway, _ = refusing
    gateway.config["shutdown"] = {"drain": "0s"}
    with Guest(gateway.base()) as guest:
        guest.send()
        wait_for(gateway, "/v1/cells/cell-0", lambda _, body: body["frames"] == 1)
        with contextlib.closing(connect(gateway)) as client:
            client.sendall(b"POST /v1/flush?timeout=600s HTTP/1.1\r\nHost: x\r\n\r\n")
            gateway.ask("GET", "/livez")  # it has been taken up before this was
            gateway.process.send_signal(signal.SIGTERM)
            assert read_status(client) in (503, 504)
    assert gateway.process.wait(60) == 0


# --- slow clients ---


def connect(gateway):
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(60)
    client.connect(gateway.socket)
    return client


def head(method, path, *, length=None, chunked=False):
    lines = [f"{method} {path} HTTP/1.1", "Host: x", "Content-Type: application/json"]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    if chunked:
        lines.append("Transfer-Encoding: chunked")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def read_status(client):
    answer = http.client.HTTPResponse(client)
    answer.begin()
    answer.read()
    return answer.status


def test_clients_that_stall_in_a_body_hold_up_nobody_but_themselves(gateway):
    stalled = [connect(gateway) for _ in range(300)]
    for client in stalled:
        client.sendall(head("PUT", "/v1/cells/a", length=1000) + b'{"run_id":')
    for i in range(20):
        assert gateway.ask("GET", "/livez", timeout=4)[0] == 200
        assert gateway.put(f"cell-{i}")[0] == 201
    for client in stalled:
        assert client.recv(4096) == b""  # closed by the gateway, whenever that is
        client.close()


def test_a_request_split_at_every_byte_is_taken(gateway):
    body = json.dumps(gateway.registration("cell-a")).encode()
    with contextlib.closing(connect(gateway)) as client:
        for byte in head("PUT", "/v1/cells/cell-a", length=len(body)) + body:
            client.sendall(bytes([byte]))
        assert read_status(client) == 201


def test_a_client_that_leaves_during_the_work_leaves_nothing_half_made(gateway):
    for i in range(20):
        body = json.dumps(gateway.registration(f"cell-{i}")).encode()
        client = connect(gateway)
        client.sendall(head("PUT", f"/v1/cells/cell-{i}", length=len(body)) + body)
        client.close()
    for i in range(20):
        assert gateway.put(f"cell-{i}")[0] in (200, 201)
        assert gateway.show(f"cell-{i}")[0] == 200


def test_requests_at_once_from_many_clients_are_each_answered(gateway):
    failures = []

    def churn(worker):
        for i in range(20):
            cell = f"cell-{worker}-{i}"
            steps = [gateway.put(cell)[0], gateway.put(cell)[0], gateway.delete(cell)[0]]
            if steps != [201, 200, 200]:
                failures.append((cell, steps))

    threads = [threading.Thread(target=churn, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert walk(gateway, 100) == []


def test_many_cells_end_at_once_while_their_guests_send(gateway):
    """Each of 8 clients ends its 50 cells, whose guests send on: what the answer counts is what the
    exporter has, and nothing of any cell is left."""
    # A gateway that cannot keep up with its guests at all answers before all is appended.
    each = 4 if os.environ.get("CELLGATE_SLOW") == "1" else 50
    cells = [[f"cell-{worker}-{i}" for i in range(each)] for worker in range(8)]
    guests = {}
    for cell in sum(cells, []):
        assert gateway.put(cell)[0] == 201
        guests[cell] = Guest(gateway.base_of(cell))
    answers = {}

    def flood(mine):
        open_guests = {cell: guests[cell] for cell in mine}
        while open_guests:
            for cell, guest in list(open_guests.items()):
                try:
                    guest.send_many(5)
                except OSError:  # ended by the host
                    del open_guests[cell]

    def end(mine):
        for cell in mine:
            answers[cell] = gateway.delete(cell)

    threads = [threading.Thread(target=work, args=(mine,)) for mine in cells for work in (flood, end)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for guest in guests.values():
        guest.close()
    assert {status for status, _ in answers.values()} == {200} and len(answers) == 8 * each
    assert gateway.ask("POST", "/v1/flush")[0] == 200
    events = {}
    for event in gateway.events():
        events.setdefault(event["data"]["cellId"], []).append(event)
    for cell, (_, totals) in answers.items():
        sequences = [event["data"]["host"]["sequence"] for event in events[cell]]
        assert sequences == list(range(1, totals["last_sequence"] + 1))
        declared = sum(event["data"]["provenance"] == "declared" for event in events[cell])
        assert totals["frames"] == declared
        assert events[cell][-1]["type"].endswith("run_ended")
        assert events[cell][-1]["data"]["frames"] == declared
    assert sum(totals["frames"] for _, totals in answers.values()) > 0
    assert walk(gateway, 1000) == []
    assert sorted(os.listdir(gateway.root)) == ["control.sock", "http.sock"]


def test_the_same_cell_from_many_clients_is_made_once(gateway):
    statuses = []
    threads = [
        threading.Thread(target=lambda: statuses.append(gateway.put("cell-a")[0]))
        for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] * 15 + [201]


# --- what survives ---


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_registrations_and_ended_runs_survive(gateway, end):
    for cell in ("cell-a", "cell-b"):
        gateway.put(cell, labels={"of": cell}, keepalive_ms=60000)
    with Guest(gateway.base_of("cell-a")) as guest:
        guest.send_many(7)
        wait_for(gateway, "/v1/cells/cell-a", lambda _, body: body["frames"] == 7)
    gateway.delete("cell-b")
    before = gateway.show("cell-a")[1]
    getattr(gateway, end)()
    gateway.start()
    after = gateway.show("cell-a")[1]
    for member in ("run_id", "labels", "keepalive_ms", "vsock_uds_base", "connections_opened"):
        assert after[member] == before[member]
    assert after["sequence"] >= before["sequence"]
    assert gateway.put("cell-a", labels={"of": "cell-a"}, keepalive_ms=60000)[0] == 200
    assert gateway.show("cell-b")[0] == 404
    assert gateway.put("cell-b", labels={"of": "cell-b"}, keepalive_ms=60000)[0] == 409
    with Guest(gateway.base_of("cell-a")) as guest:
        guest.send()
        cell = wait_for(gateway, "/v1/cells/cell-a", lambda _, body: body["frames"] == 1)
        assert cell["connections_opened"] == 2


def test_the_run_ends_with_the_process_that_was_named(gateway):
    with subprocess.Popen(["sleep", "600"]) as vmm:
        try:
            assert gateway.put("cell-a", vmm_pid=vmm.pid)[0] == 201
            assert gateway.show("cell-a")[0] == 200
        finally:
            vmm.kill()
    wait_for(gateway, "/v1/cells", lambda _, page: page["cells"] == [])
    assert gateway.put("cell-a")[0] == 409
    assert not os.path.lexists(gateway.base_of("cell-a") + "_9001")


def test_a_process_that_is_not_there_is_refused(gateway):
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    status, problem = gateway.put("cell-a", vmm_pid=gone.pid)
    assert (status, problem["member"]) == (422, "vmm_pid")


def test_a_control_socket_needs_a_place_for_its_registrations(tmp_path):
    gateway = ControlledGateway(tmp_path, start=False)
    del gateway.config["state_dir"]
    path = tmp_path / "c.json"
    path.write_text(json.dumps(gateway.config))
    done = subprocess.run([BINARY, "check", "--config", path], capture_output=True, text=True)
    assert done.returncode == 78 and "needs a state_dir" in done.stderr


# --- a disk that is full ---


@contextlib.contextmanager
def full_disk(gateway):
    """No file of the gateway's can grow, as on a full disk."""
    pid = gateway.process.pid
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, hard))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))


def test_what_cannot_be_kept_is_507_and_leaves_nothing(tmp_path):
    gateway = ControlledGateway(tmp_path, start=False)
    del gateway.config["spool"]  # in memory: only the registrations want room
    with gateway:
        gateway.start()
        assert gateway.put("cell-a")[0] == 201
        before = sorted(os.listdir(gateway.root))
        with full_disk(gateway):
            status, problem = gateway.put("cell-b")
            assert status == 507 and "registrations" in problem["detail"]
            assert gateway.show("cell-b")[0] == 404
            assert sorted(os.listdir(gateway.root)) == before
            assert gateway.delete("cell-a")[0] == 507
            assert gateway.show("cell-a")[0] == 200
            assert gateway.ask("GET", "/livez")[0] == 200
            status, text = gateway.get("/readyz?verbose")
            assert status == 503 and "[-] registrations: cannot be kept" in text
            status, report, _ = gateway.ask("GET", "/healthz")
            assert (status, report["registrations_kept"]) == (503, False)
        # Ready again by itself: a supervisor that asks first would else never register any more.
        gateway.wait_log("event=registrations_mended")
        assert gateway.get("/readyz")[0] == 200
        assert gateway.put("cell-b")[0] == 201
        assert gateway.delete("cell-a")[0] == 200
        gateway.kill()
        gateway.start()
        assert walk(gateway, 10) == ["cell-b"]


# --- for people ---


def cellgate(gateway, *arguments):
    done = subprocess.run(
        [BINARY, *arguments],
        env={**os.environ, "CELLGATE_CONTROL": gateway.socket},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr


def test_the_commands_do_what_the_requests_do(gateway):
    base = gateway.base_of("a")
    add = ["cell", "add", "a", "--run", "r", "--hash", "h", "--base", base]
    status, out, err = cellgate(gateway, *add, "-l", "team=b=l", "--keepalive-ms", "9000")
    assert (status, err) == (0, "") and f"{base}_9001" in out
    status, out, _ = cellgate(gateway, "cell", "show", "a", "--json")
    shown = json.loads(out)
    assert status == 0 and shown["labels"] == {"team": "b=l"} and shown["keepalive_ms"] == 9000
    status, out, _ = cellgate(gateway, "cell", "list")
    header, row = out.splitlines()
    assert header.split()[:3] == ["CELL", "RUN", "STATE"]
    assert row.split()[:3] == ["a", "r", "waiting"]
    status, out, _ = cellgate(gateway, "cell", "list", "--json", "--state", "waiting")
    assert [json.loads(line)["cell_id"] for line in out.splitlines()] == ["a"]
    status, out, _ = cellgate(gateway, "status")
    assert status == 0 and out.startswith("ok: cellgate ") and "1 waiting" in out
    assert json.loads(cellgate(gateway, "status", "--json")[1])["cells"]["waiting"] == 1
    status, out, _ = cellgate(gateway, "cell", "rm", "a", "--wait", "30s", "--json")
    assert status == 0 and json.loads(out)["cell_id"] == "a"
    status, out, err = cellgate(gateway, "cell", "rm", "a")
    assert (status, out) == (1, "") and err.startswith("cellgate cell: 404 Not Found: ")


def test_the_list_goes_over_pages(tmp_path):
    with ControlledGateway(tmp_path, cells=1100) as gateway:
        _, out, _ = cellgate(gateway, "cell", "list", "--json")
        ids = [json.loads(line)["cell_id"] for line in out.splitlines()]
        assert ids == sorted(f"cell-{i}" for i in range(1100))


@pytest.mark.parametrize(
    "arguments",
    [
        ["cell"],
        ["cell", "add", "a"],
        ["cell", "list", "a"],
        ["cell", "fly", "a"],
        ["cell", "show"],
        ["cell", "add", "a", "-r", "r", "-H", "h", "-b", "/b", "--owner", "root"],
        ["cell", "add", "a", "-r", "r", "-H", "h", "-b", "/b", "--label", "x"],
        ["cell", "add", "a", "-r", "r", "-H", "h", "-b", "/b", "--vmm-pid", "x"],
        ["status", "x"],
        ["status", "--nothing"],
    ],
)
def test_usage_is_64(gateway, arguments):
    status, out, err = cellgate(gateway, *arguments)
    assert (status, out) == (64, "") and err


def test_without_a_gateway_the_commands_say_so(tmp_path):
    for command in (["status"], ["cell", "list"]):
        done = subprocess.run(
            [BINARY, *command, "--socket", str(tmp_path / "none")], capture_output=True, text=True
        )
        assert done.returncode == 1 and "connect to" in done.stderr
    for command in ("status", "cell"):
        done = subprocess.run([BINARY, command, "--help"], capture_output=True, text=True)
        assert (done.returncode, done.stdout.split()[0]) == (0, "usage:")


def test_a_registration_that_cannot_be_bound_again_shows(tmp_path):
    with ControlledGateway(tmp_path) as gateway:
        directory = pathlib.Path(gateway.root) / "gone"
        directory.mkdir()
        base = str(directory / "v.sock")
        assert gateway.put("a", vsock_uds_base=base)[0] == 201
        assert gateway.stop() == 0
        directory.rmdir()
        gateway.start()
        assert "cell=a" in gateway.wait_log("event=registration_not_bound")
        status, text = gateway.get("/readyz?verbose")
        assert status == 200
        assert "[?] registrations: 1 could not be bound at the start" in text
        assert gateway.metric("cellgate_registrations_unbound_total") == 1
        assert gateway.show("a")[0] == 404
        directory.mkdir()
        assert gateway.put("a", vsock_uds_base=base)[0] == 201
        assert gateway.show("a")[0] == 200
