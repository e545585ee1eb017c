"""Dead letters of the real gateway: kept, shown, sent again, dropped; with the gateway running or not."""

import json
import pathlib
import subprocess

import pytest

from support.control import ControlledGateway, schema
from support.flows import caught_up, to_sink, until
from support.gateway import BINARY, QUICK_RETRY
from support.guest import Guest
from support.http_sink import Answer, HttpSink

SLOW_HOLD = {**QUICK_RETRY, "hold_initial": "1h", "hold_max": "1h"}


def pids(events):
    return [event["data"]["guest"]["guestPid"] for event in events if "guest" in event["data"]]


def refuses(wrong, body=b"no such field"):
    """A policy: 422 for every batch with one of these pids in it."""
    return lambda request: Answer(422, body=body) if set(pids(request.events())) & wrong else None


class Letters:
    """`cellgate dead-letter` for one gateway, over its socket or in its files."""

    def __init__(self, gateway, files=False):
        self.where = ["--state-dir", gateway.config["state_dir"]] if files else ["--socket", gateway.socket]

    def run(self, *arguments, status=0):
        done = subprocess.run([BINARY, "dead-letter", *arguments, *self.where],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        assert done.returncode == status, (arguments, done.stdout, done.stderr)
        return done.stdout if status == 0 else done.stderr

    def list(self, exporter="central"):
        return [json.loads(line) for line in self.run("list", exporter, "--json").splitlines()]

    def counts(self, exporter="central"):
        answer = json.loads(self.run("list", "--json"))
        schema("dead-letter-counts").validate(answer)
        return next(row for row in answer["exporters"] if row["exporter"] == exporter)

    def show(self, letter_id):
        return json.loads(self.run("show", "central", letter_id, "--json"))


@pytest.fixture
def sink():
    with HttpSink() as made:
        yield made


def gateway_of(tmp_path, sink, *, start=True, **more):
    """One cell from the file, and central, which is the sink."""
    return ControlledGateway(tmp_path, exporters=[to_sink("central", sink.url, **more)], cells=1, start=start)


def play(gateway, count, **fields):
    with Guest(gateway.base()) as guest:
        guest.send_many(count, **fields)


def with_letters(gateway, sink, wrong=frozenset({3, 7}), count=20):
    """Plays guests of which the sink refuses some, and waits until those are dead letters."""
    sink.policy = refuses(set(wrong))
    play(gateway, count)
    until(lambda: gateway.metric("cellgate_exporter_dead_lettered_events_total", exporter="central") == len(wrong),
          lambda: gateway.log()[-2000:])
    caught_up(gateway, "central")


def test_letters_are_listed_and_shown_with_reason_answer_and_event(tmp_path, sink):
    with gateway_of(tmp_path, sink) as gateway:
        with_letters(gateway, sink)
        letters = Letters(gateway)
        counts = letters.counts()
        assert counts["letters"] == 2 and counts["replaying"] == 0 and counts["unreadable"] == 0
        assert counts["reasons"] == {"refused": 2, "too_large": 0, "failing": 0, "age": 0}
        assert counts["bytes_max"] == 64 << 20
        rows = letters.list()
        assert [row["status"] for row in rows] == [422, 422]
        assert {row["state"] for row in rows} == {"kept"} and {row["cell"] for row in rows} == {"cell-0"}
        letter = letters.show(rows[0]["id"])
        schema("dead-letter").validate(letter)
        assert letter["answer"] == "no such field" and letter["detail"] == "HTTP 422"
        assert letter["event"]["id"] == rows[0]["id"] and pids([letter["event"]]) == [3]
        assert gateway.metric("cellgate_exporter_dead_letters", exporter="central") == 2
        assert gateway.metric("cellgate_exporter_dead_letter_bytes", exporter="central") == counts["bytes"]
        for words in (letters.run("list"), letters.run("list", "central"),
                      letters.run("show", "central", rows[1]["id"])):
            assert "central" in words or rows[1]["id"] in words
        assert "no such dead letter" in letters.run("show", "central", "nothing", status=1)
        assert "no such exporter" in letters.run("list", "nobody", status=1)
        # And the files say the same, whether or not it runs.
        assert Letters(gateway, files=True).list() == rows


def test_a_replay_sends_the_exact_bytes_again_and_removes_what_is_acknowledged(tmp_path, sink):
    with gateway_of(tmp_path, sink) as gateway:
        with_letters(gateway, sink)
        path = pathlib.Path(gateway.config["state_dir"]) / "dead-letters/central.jsonl"
        kept = path.read_text()
        letters = Letters(gateway)
        first, second = [row["id"] for row in letters.list()]
        sink.policy = lambda request: None
        assert letters.run("replay", "central", first) == "1 to be sent again\n"
        sink.wait(lambda: 3 in pids(sink.accepted))
        until(lambda: letters.counts()["letters"] == 1, letters.counts)
        assert [row["id"] for row in letters.list()] == [second]
        body = next(r for r in reversed(sink.requests) if 3 in pids(r.events())).body.decode()
        assert body[1:-1] in kept, "not the bytes that were kept"

        assert letters.run("replay", "central", "--all") == "1 to be sent again\n"
        sink.wait(lambda: 7 in pids(sink.accepted))
        until(lambda: path.read_text() == "", path.read_text)
        assert gateway.metric("cellgate_exporter_replayed_events_total", exporter="central") == 2
        assert gateway.metric("cellgate_exporter_dead_letter_bytes", exporter="central") == 0
        assert sorted(pids(sink.accepted)) == list(range(20))
        gateway.wait_log("event=dead_letters_replayed")


def test_a_letter_that_is_refused_again_stays_and_holds_up_nobody(tmp_path, sink):
    with gateway_of(tmp_path, sink) as gateway:
        with_letters(gateway, sink, {3, 7, 11})
        sink.policy = refuses({7})
        letters = Letters(gateway)
        letters.run("replay", "central", "--all")
        until(lambda: letters.counts()["letters"] == 1 and letters.counts()["replaying"] == 0, letters.counts)
        assert pids([letters.show(letters.list()[0]["id"])["event"]]) == [7]
        gateway.wait_log("event=dead_letter_refused")
        play(gateway, 1, guest_pid=4242)
        sink.wait(lambda: 4242 in pids(sink.accepted))


def test_a_destination_in_trouble_holds_the_replay_and_not_the_letters(tmp_path, sink):
    with gateway_of(tmp_path, sink) as gateway:
        with_letters(gateway, sink)
        sink.policy = lambda request: Answer(503)
        letters = Letters(gateway)
        letters.run("replay", "central", "--all")
        before = len(sink.requests)
        sink.wait_requests(before + 5)
        assert letters.counts()["replaying"] == 2
        sink.policy = lambda request: None
        until(lambda: letters.counts()["letters"] == 0, letters.counts)
        assert sorted(set(pids(sink.accepted))) == list(range(20))


def test_a_replay_survives_kill_9_at_any_instant(tmp_path, sink):
    """Killed again and again on the way: each letter arrives, with its own bytes, none is lost."""
    wrong = set(range(0, 400, 2))
    with gateway_of(tmp_path, sink, batch={"linger": "1ms", "events": 10}) as gateway:
        with_letters(gateway, sink, wrong, 400)
        path = pathlib.Path(gateway.config["state_dir"]) / "dead-letters/central.jsonl"
        kept = {letter["id"]: letter["event"] for letter in map(json.loads, path.read_text().splitlines())}
        assert len(kept) == len(wrong)
        before = len(sink.accepted)
        sink.policy = lambda request: None
        seen = len(sink.requests)
        Letters(gateway).run("replay", "central", "--all")
        for _ in range(6):
            sink.wait(lambda: len(sink.requests) > seen)
            gateway.kill()
            left = {json.loads(line)["id"] for line in path.read_text().splitlines()
                    if json.loads(line)["state"] in ("kept", "redo")}
            arrived = {event["id"] for event in sink.accepted[before:]}
            assert left | arrived >= set(kept), "a letter is neither in the file nor delivered"
            seen = len(sink.requests)
            gateway.start()
            play(gateway, 1, guest_pid=4242)  # so that there is something to wait for
        letters = Letters(gateway)
        until(lambda: letters.counts()["letters"] == 0, letters.counts)
        # A kill repeats events of the spool as well.
        arrived = [event for event in sink.accepted[before:] if event["id"] in kept]
        assert {event["id"] for event in arrived} == set(kept)
        assert all(event == kept[event["id"]] for event in arrived)
        print(f"letters {len(kept)}, sent again {len(arrived)}, lost 0")


def test_dropping_needs_names_or_a_second_word(tmp_path, sink):
    with gateway_of(tmp_path, sink) as gateway:
        with_letters(gateway, sink, {1, 2, 3, 4})
        letters = Letters(gateway)
        rows = letters.list()
        letters.run("drop", "central", status=64)
        letters.run("drop", "central", "--all", status=64)
        letters.run("replay", "central", rows[0]["id"], "--all", status=64)
        assert "no such dead letters" in letters.run("drop", "central", "nothing", status=1)
        assert letters.run("drop", "central", rows[0]["id"], rows[2]["id"]) == "2 dropped\n"
        assert [row["id"] for row in letters.list()] == [rows[1]["id"], rows[3]["id"]]
        assert letters.run("drop", "central", "--all", "--yes") == "2 dropped\n"
        assert letters.list() == []
        until(lambda: gateway.metric("cellgate_exporter_dead_letter_bytes", exporter="central") == 0,
              gateway.log)


def test_without_a_running_gateway_the_files_do_and_a_replay_follows_the_start(tmp_path, sink):
    with gateway_of(tmp_path, sink) as gateway:
        with_letters(gateway, sink, {3, 7, 11})
        letters = Letters(gateway, files=True)
        assert "another process has it" in letters.run("drop", "central", "--all", "--yes", status=1)
        assert gateway.stop() == 0
        rows = letters.list()
        assert letters.counts()["reasons"]["refused"] == 3
        assert letters.show(rows[0]["id"])["event"]["id"] == rows[0]["id"]
        assert letters.run("drop", "central", rows[1]["id"]) == "1 dropped\n"
        assert letters.run("replay", "central", rows[2]["id"]) == "1 to be sent again at the next start\n"
        assert [row["state"] for row in letters.list()] == ["kept", "redo"]
        letters.run("list", "../central", status=1)
        letters.run("list", "nobody", status=1)
        sink.policy = lambda request: None
        gateway.start()
        sink.wait(lambda: 11 in pids(sink.accepted))
        until(lambda: [row["id"] for row in Letters(gateway).list()] == [rows[0]["id"]], gateway.log)


def test_a_full_store_holds_its_exporter_until_there_is_room(tmp_path, sink):
    """1 MiB of letters; whoever drops some need not tell anybody: with the hold at an hour, it is the
    dropping that lets it go on."""
    answer = b"x" * 4000
    wrong = set(range(0, 800, 2))
    with gateway_of(tmp_path, sink, retry=SLOW_HOLD, dead_letters={"max_bytes": "1MiB"}) as gateway:
        sink.policy = refuses(wrong, answer)
        play(gateway, 800)
        until(lambda: "[?] exporter central: holding" in gateway.get("/readyz?verbose")[1]
              and "full" in gateway.get("/readyz?verbose")[1], lambda: gateway.get("/readyz?verbose")[1])
        assert gateway.get("/readyz")[0] == 200
        health = json.loads(gateway.get("/healthz")[1])
        assert health["status"] == "degraded" and health["exporters"][0]["state"] == "holding"
        status, shown, _ = gateway.ask("GET", "/v1/exporters")
        store = shown["exporters"][0]["dead_letters"]
        assert 0 < store["bytes"] <= store["bytes_max"] == 1 << 20
        assert gateway.metric("cellgate_exporter_dead_letter_bytes", exporter="central") == store["bytes"]
        gateway.wait_log("event=exporter_holding")

        letters = Letters(gateway)
        found = [letters.show(row["id"])["event"] for row in letters.list()]
        full = len(found)
        assert full == store["letters"]
        letters.run("drop", "central", "--all", "--yes")
        # A replay makes room as well.
        until(lambda: letters.counts()["letters"] > 0
              and "full" in gateway.get("/readyz?verbose")[1] or gateway.metric(
                  "cellgate_exporter_backlog_events", exporter="central") == 0, gateway.log)
        sink.policy = refuses(wrong, answer) if letters.counts()["letters"] == 0 else lambda request: None
        letters.run("replay", "central", "--all")
        caught_up(gateway, "central")
        until(lambda: letters.counts()["replaying"] == 0, letters.counts)
        found += [letters.show(row["id"])["event"] for row in letters.list()]
        accounted = set(pids(found)) | set(pids(sink.accepted))
        assert accounted == set(range(800))
        print(f"events 800, delivered {len(set(pids(sink.accepted)))}, dead letters {len(found)}, lost 0")


def test_events_that_are_too_old_are_set_aside_and_can_be_replayed(tmp_path, sink):
    sink.policy = lambda request: Answer(503)
    retry = {**QUICK_RETRY, "max_age": "300ms"}
    with gateway_of(tmp_path, sink, retry=retry) as gateway:
        play(gateway, 30)
        until(lambda: gateway.metric("cellgate_exporter_expired_events_total", exporter="central") >= 30,
              lambda: gateway.log()[-2000:])
        letters = Letters(gateway)
        counts = letters.counts()
        assert counts["reasons"]["age"] == counts["letters"] >= 30
        assert "reason=age" in gateway.log()
        sink.policy = lambda request: None
        # There is nothing else to show the destination healthy.
        letters.run("replay", "central", "--all")
        until(lambda: letters.counts()["letters"] == 0, letters.counts)
        assert set(pids(sink.accepted)) >= set(range(30))
        assert gateway.metric("cellgate_exporter_up", exporter="central") == 1
        until(lambda: "[+] exporter central: ok" in gateway.get("/readyz?verbose")[1], gateway.log)


def test_the_api_refuses_what_it_does_not_understand(tmp_path, sink):
    with gateway_of(tmp_path, sink) as gateway:
        with_letters(gateway, sink)
        base = "/v1/dead-letters/central"
        for path, body, status in [
            (f"{base}/drop", "", 400),
            (f"{base}/drop", "{", 400),
            (f"{base}/drop", '{"all": true, "all": true}', 400),
            (f"{base}/drop", "{}", 422),
            (f"{base}/drop", '{"all": false}', 422),
            (f"{base}/drop", '{"ids": []}', 422),
            (f"{base}/drop", '{"ids": [7]}', 422),
            (f"{base}/drop", '{"ids": ["a"], "all": true}', 422),
            (f"{base}/drop", '{"ids": ["a"]}', 404),
            ("/v1/dead-letters/nobody/drop", '{"all": true}', 404),
            (f"{base}/something", '{"all": true}', 405),
            (base, "{}", 405),
            ("/v1/dead-letters", "{}", 405),
        ]:
            json_type = {"Content-Type": "application/json"}
            assert gateway.ask("POST", path, body, json_type)[0] == status, (path, body)
        assert gateway.ask("POST", f"{base}/drop", '{"all": true}')[0] == 415
        assert gateway.ask("GET", f"{base}/drop")[0] == 405
        assert gateway.ask("GET", f"{base}?limit=0")[0] == 400
        assert gateway.ask("GET", f"{base}?limit=1001")[0] == 400
        assert gateway.ask("GET", f"{base}?after=x")[0] == 400
        status, page, _ = gateway.ask("GET", f"{base}?limit=1")
        assert status == 200 and len(page["letters"]) == 1 and page["next"] == 1
        status, page, _ = gateway.ask("GET", f"{base}?limit=1&after=1")
        assert status == 200 and len(page["letters"]) == 1 and page["next"] is None
        assert Letters(gateway).counts()["letters"] == 2
        # Events are not for everybody who may ask for the gateway's health.
        assert gateway.get("/v1/dead-letters")[0] == 404


def test_without_a_state_directory_an_age_limit_is_refused(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"exporters": [
        {"name": "a", "type": "jsonl", "path": "/dev/null", "retry": {"max_age": "1h"}}]}))
    done = subprocess.run([BINARY, "check", "--config", str(path)], capture_output=True, text=True)
    assert done.returncode == 78 and "retry.max_age: needs state_dir" in done.stderr + done.stdout
