"""What the flow tests share: `cellgate send` in the background, and an account of what arrived.

An account knows every event by (run, sequence), its bytes among that, so that a test can say: nothing
is missing, and what came twice came the same.
"""

import json
import subprocess
import time

from support.gateway import BINARY, QUICK_RETRY

_DECODER = json.JSONDecoder()


class Load:
    """`cellgate send` in the background."""

    def __init__(self, base, *arguments):
        self._process = subprocess.Popen(
            [BINARY, "send", "--json", "--socket", base, *map(str, arguments)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def running(self):
        return self._process.poll() is None

    def end(self, timeout=120):
        """Waits for its end; (exit status, summary)."""
        out = self._process.stdout.read()
        return self._process.wait(timeout), json.loads(out)


def play(base, *arguments):
    """Plays guests to the end, with nothing lost; the summary."""
    with Load(base, *arguments) as load:
        status, summary = load.end()
        assert status == 0 and summary["lost"] == 0, summary
        return summary


def until(condition, what, timeout=60):
    """Asks again until it holds. What is asked should take a while: a request, not a variable."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, f"not within {timeout} s: {what()}"


def caught_up(gateway, exporter, timeout=60):
    """Waits until the exporter has nothing left to deliver."""

    def backlog():
        return gateway.metric("cellgate_exporter_backlog_events", exporter=exporter)

    until(lambda: backlog() == 0, lambda: f"{exporter} is {backlog()} events behind", timeout)


def total(gateway, name, **labels):
    """The sum of a counter's series."""
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    found = 0
    for line in gateway.get("/metrics")[1].splitlines():
        series, _, value = line.rpartition(" ")
        if series.partition("{")[0] == name and all(label in series for label in wanted):
            found += int(float(value))
    return found


def to_sink(name, url, **more):
    return {
        "name": name, "type": "cloudevents-http", "url": url, "retry": QUICK_RETRY,
        "batch": {"linger": "5ms"}, **more,
    }  # fmt: skip


def to_file(name, path, **more):
    return {"name": name, "type": "jsonl", "path": str(path), "batch": {"linger": "5ms"}, **more}


# --- what arrived ---


def texts_of_body(body):
    """The texts of the events in a batch, byte for byte as they came."""
    text = body.decode()
    assert text[0] == "[" and text[-1] == "]"
    texts, at = [], 1
    while at < len(text) - 1:
        _, end = _DECODER.raw_decode(text, at)
        texts.append(text[at:end])
        at = end + 1
    return texts


def texts_of_file(path):
    """The lines of a file, the last of which is whole."""
    text = path.read_bytes().decode()
    assert text == "" or text[-1] == "\n", "a torn line"
    return text.splitlines()


class Arrival:
    """One event as it arrived."""

    def __init__(self, text):
        event = json.loads(text)
        self.text = text
        self.id = event["id"]
        # A signed event is the data of its transport event.
        data = event["data"].get("event", event)["data"]
        host = data.get("host", data)
        self.run = (data["cellId"], data["runId"])
        self.sequence = host["sequence"]
        self.connection = host.get("connection")
        self.guest = data.get("guest")


class Account:
    """All that one receiver has got, in order of arrival."""

    def __init__(self, texts):
        self.arrivals = [Arrival(text) for text in texts]
        self.by_id = {}
        self.by_sequence = {}
        self.repeated = 0
        for arrival in self.arrivals:
            first = self.by_id.setdefault(arrival.id, arrival)
            assert first.text == arrival.text, "an event came again with other bytes"
            self.repeated += first is not arrival
            same = self.by_sequence.setdefault((*arrival.run, arrival.sequence), arrival)
            assert same.id == arrival.id, "two events have one sequence number"

    @classmethod
    def of_sink(cls, sink):
        """Of what a sink accepted that always accepts."""
        return cls(text for request in sink.requests for text in texts_of_body(request.body))

    @classmethod
    def of_accepted(cls, sink):
        return cls(json.dumps(event) for event in sink.accepted)

    @classmethod
    def of_files(cls, *paths):
        return cls(line for path in paths for line in texts_of_file(path))

    def runs(self):
        return {arrival.run for arrival in self.arrivals}

    def sequences(self, run):
        return [arrival.sequence for arrival in self.arrivals if arrival.run == run]

    def guests(self):
        """Those that guests sent, each once."""
        return [arrival for arrival in self.by_id.values() if arrival.guest is not None]

    def texts(self):
        return {arrival.id: arrival.text for arrival in self.by_id.values()}

    def assert_whole(self):
        """No run misses a number between 1 and its last."""
        last, count = {}, {}
        for cell, run, sequence in self.by_sequence:
            key = (cell, run)
            last[key] = max(last.get(key, 0), sequence)
            count[key] = count.get(key, 0) + 1
        assert last == count

    def assert_in_order(self):
        """Each run came from 1 on, each number once and in turn."""
        expected = {}
        for arrival in self.arrivals:
            expected[arrival.run] = expected.get(arrival.run, 0) + 1
            assert arrival.sequence == expected[arrival.run], arrival.text
