"""Memory, disk, signing and HTTP that fail at random, for a budget of seeds: nothing that was
appended is lost, what could not be signed is named, and the gateway lives."""

import os
import struct

import pytest
from support.faults import Ledger, last_delivered, last_sequences, scaled
from support.flows import Account, Load, caught_up, until, to_file, to_sink
from support.gateway import Gateway
from support.http_sink import HttpSink

KINDS = ("memory", "write", "sync", "sign", "http")
CELLS = 2
NAMES = ["cell-0", "cell-1"]
BINARY = os.environ["CELLGATE_WRAPPED"]


class Faults:
    def __init__(self, directory, seed):
        self._path = directory / "wrap"
        self._seed = seed
        self._path.write_bytes(bytes(8 * (1 + 2 * len(KINDS))))
        self.env = {"WRAP_CONTROL": str(self._path)}
        self.set()

    def set(self, **one_of):
        numbers = [one_of.get(kind, 0) for kind in KINDS]
        with open(self._path, "r+b") as control:
            control.write(struct.pack(f"<{1 + len(KINDS)}Q", self._seed, *numbers))

    def failed(self):
        counts = self._path.read_bytes()[8 * (1 + len(KINDS)) :]
        return dict(zip(KINDS, struct.unpack(f"<{len(KINDS)}Q", counts)))


def config(directory, keys):
    return {
        "state_dir": str(directory / "state"),
        "spool": {"dir": str(directory / "spool"), "max_bytes": "16MiB", "sync": "5ms"},
        "signing": keys,
    }


def signing(directory, seed):
    key = directory / "k1.key"
    key.write_text("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8\n")
    key.chmod(0o600)
    return {"mode": ("hmac-sha256", "ed25519")[seed % 2], "kid": "k1", "key_file": str(key)}


@pytest.mark.parametrize("seed", range(1, 1 + scaled(8, 300)))
def test_a_gateway_whose_calls_fail_at_random_loses_nothing_it_appended(tmp_path, seed):
    faults = Faults(tmp_path, seed)
    path = tmp_path / "events.jsonl"
    with HttpSink() as sink:
        gateway = Gateway(
            tmp_path, exporters=[to_sink("central", sink.url), to_file("local", path)], cells=CELLS,
            config=config(tmp_path, signing(tmp_path, seed)), env=faults.env, binary=BINARY,
        )  # fmt: skip
        with gateway:
            faults.set(memory=3 + seed % 7, write=20, sync=5, sign=50 + seed % 5 * 50, http=20)
            load = ["--cells", CELLS, "--connections", 30, "--frames", 50, "--rate", 6000]
            load += ["--reconnect", 10]
            with Load(gateway.base("%d"), *load) as load:
                load.end()
            assert gateway.process.poll() is None, gateway.log()

            def all_failed():
                if not all(faults.failed().values()):  # there has to be something to sync, and to send
                    with Load(gateway.base("%d"), "--cells", CELLS, "--frames", 20) as more:
                        more.end()
                return all(faults.failed().values())

            until(all_failed, faults.failed)
            faults.set()
            for exporter in ("central", "local"):
                caught_up(gateway, exporter)
            until(
                lambda: gateway.get("/readyz")[0] == 200, lambda: gateway.get("/readyz?verbose")[1]
            )
            last = last_sequences(gateway, NAMES)
            assert gateway.stop() == 0  # and tells what is left to tell of drops
        accounts = {"http": Account.of_accepted(sink), "file": Account.of_files(path)}
    ends = last_delivered(*accounts.values())
    last = {run: max(end, ends[run]) for run, end in last.items()}
    for receiver, account in accounts.items():
        Ledger(f"calls fail at random, seed {seed}, {receiver}", account, last=last).settle()


@pytest.mark.parametrize("seed", range(1, 1 + scaled(10, 300)))
def test_a_start_that_fails_says_why_and_the_next_one_works(tmp_path, seed):
    faults = Faults(tmp_path, seed)
    gateway = Gateway(
        tmp_path, exporters=[to_file("local", tmp_path / "events.jsonl")], cells=CELLS,
        config=config(tmp_path, signing(tmp_path, seed)), env=faults.env, binary=BINARY, start=False,
    )  # fmt: skip
    with gateway:
        faults.set(memory=40, write=10, sync=4)
        status, log = gateway.try_start()
        assert status is None or (status == 1 and "event=start_failed" in log) or status == 78, (status, log)
        faults.set()
        gateway.kill()
        gateway.start()
        assert gateway.stop() == 0
