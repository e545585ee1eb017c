"""What the fault scenarios share: a disk and a clock that obey the test, and the ledger.

The ledger compares what guests sent with what a receiver got, event by event: each sequence number
of each run must have arrived, or be named by a dead letter or in a `telemetry.dropped`. Its figures
go to the file $CELLGATE_FIGURES, a line a scenario, which test.sh shows.
"""

import json
import os
import pathlib
import struct

from support.flows import Account
from support.gateway import BINARY

LONG = os.environ.get("CELLGATE_LONG") == "1"
SLOW = os.environ.get("CELLGATE_SLOW") == "1"
SANITIZED = any(
    mark in pathlib.Path(BINARY).read_bytes() for mark in (b"__asan_init", b"__tsan_init")
)
RESIDENT_MAX = 64 << 20


def scaled(short, long):
    """How much of something a run does: `bash test.sh --long` does more."""
    return long if LONG else short


class Injection:
    """The control file of tests/support/inject.c."""

    def __init__(self, directory):
        self._path = pathlib.Path(directory) / "inject"
        self._values = {"write": 0, "sync": 0, "make": 0, "clock": 0}
        self._path.write_bytes(bytes(32))
        asan = os.environ.get("ASAN_OPTIONS", "")
        self.env = {
            "LD_PRELOAD": os.environ["CELLGATE_INJECT"],
            # What is preloaded replaces no function that the sanitizer has to be first with.
            "ASAN_OPTIONS": f"{asan}:verify_asan_link_order=0".lstrip(":"),
            "INJECT_CONTROL": str(self._path),
        }

    def set(self, **values):
        """Error numbers for `write`, `sync` and `make`, nanoseconds for `clock`; 0 ends each."""
        self._values.update(values)
        packed = struct.pack("<4q", *(self._values[key] for key in ("write", "sync", "make", "clock")))
        with open(self._path, "r+b") as control:
            control.write(packed)


def dropped_ranges(text):
    """[(run, first, last)] that a telemetry.dropped event names; none for other events."""
    event = json.loads(text)
    inner = event["data"].get("event", event)
    if not inner["type"].endswith("telemetry.dropped"):
        return []
    data = inner["data"]
    ranges = [r for drop in data["drops"].values() for r in drop.get("ranges", [])]
    return [((data["cellId"], data["runId"]), first, last) for first, last in ranges]


def holes(ranges, first, last):
    """What sorted ranges leave uncovered of first..last."""
    found = []
    for a, b in ranges:
        if a > last:
            break
        if a > first:
            found.append((first, a - 1))
        first = max(first, b + 1)
    return found + ([(first, last)] if first <= last else [])


class Ledger:
    """What became of every event, for one receiver."""

    def __init__(self, scenario, account, *, last, letters=(), sent=None, resident=None):
        """`last`: the last sequence of each run; `letters`: dead letters as dicts; `sent`: frames
        that the sender's sockets took, None where a kill makes that no promise."""
        self.scenario = scenario
        self.account = account
        self.sent = sent
        self.resident = resident
        self.last = last
        got = set(account.by_sequence)
        self.by_letter = {
                (letter["cell"], letter["run"], letter["sequence"]) for letter in letters
        } - got
        named = {}  # numbers may be skipped by the million: ranges, not sets
        for text in account.texts().values():
            for run, first, end in dropped_ranges(text):
                named.setdefault(run, []).append((first, end))
        there = {}
        for cell, run_id, sequence in got | self.by_letter:
            there.setdefault((cell, run_id), []).append((sequence, sequence))
        self.by_name = 0
        self.lost = []  # (cell, run, first, last)
        for run, end in last.items():
            for first, until in holes(sorted(there.get(run, [])), 1, end):
                missed = holes(sorted(named.get(run, [])), first, until)
                self.lost += [(*run, *hole) for hole in missed]
                self.by_name += until - first + 1 - sum(b - a + 1 for a, b in missed)

    def figures(self):
        accounted = len(self.by_letter) + self.by_name
        lost = sum(end - first + 1 for _, _, first, end in self.lost)
        sent = "-" if self.sent is None else f"{self.sent:,}"
        line = (
            f"{self.scenario:<44} sent {sent:>9}  appended {sum(self.last.values()):>9,}  "
            f"delivered {len(self.account.by_id):>9,}  duplicates {self.account.repeated:>7,}  "
            f"accounted {accounted:>7,}  lost {lost:,}"
        )
        return line if self.resident is None else f"{line}  resident {self.resident >> 20} MiB"

    def settle(self):
        """Writes the figures down, and holds what must hold in every scenario."""
        path = os.environ.get("CELLGATE_FIGURES")
        if path:
            with open(path, "a") as figures:
                figures.write(self.figures() + "\n")
        assert not self.lost, f"{self.figures()}: {self.lost[:10]}"
        if self.sent is not None:
            guests = len(self.account.guests()) + len(self.by_letter) + self.by_name
            assert guests >= self.sent, self.figures()
        if self.resident is not None and not SANITIZED:
            assert self.resident <= RESIDENT_MAX, self.figures()
        return self


def last_sequences(gateway, cells):
    """The last sequence that each run was given, as the gateway says."""
    last = {}
    for cell in cells:
        status, text = gateway.get(f"/v1/cells/{cell}")
        assert status == 200, text
        shown = json.loads(text)
        last[(cell, shown["run_id"])] = shown["sequence"]
    return last


def last_delivered(*accounts):
    """The last sequence of each run that any of the receivers has seen."""
    last = {}
    for account in accounts:
        for cell, run, sequence in account.by_sequence:
            last[(cell, run)] = max(last.get((cell, run), 0), sequence)
    return last


def whole_lines(path):
    """The lines of a file whose writer was killed: a last one without its end is none."""
    if not path.exists():
        return []
    text = path.read_bytes().decode(errors="replace")
    return text[: text.rfind("\n") + 1].splitlines()


def account_of_receiver(path):
    """What tests/support/receiver.py has written down. A line that a kill cut was never acknowledged."""
    texts = []
    for line in whole_lines(path):
        if line.endswith("]"):
            texts += [json.dumps(event) for event in json.loads(line)]
    return Account(texts)


def dead_letters(directory, exporter):
    path = pathlib.Path(directory) / "state" / "dead-letters" / f"{exporter}.jsonl"
    return [json.loads(line) for line in whole_lines(path)]
