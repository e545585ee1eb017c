"""`cellgate verify` against the verdicts of the published implementation."""

import json
import os
import pathlib
import subprocess

import pytest

HERE = pathlib.Path(__file__).parent
CELLGATE = os.environ["CELLGATE"]
with open(HERE / "verify.jsonl", encoding="utf-8") as lines:
    CASES = [json.loads(line) for line in lines]


@pytest.fixture(scope="module", name="keys")
def split_keyring(tmp_path_factory):
    directory = tmp_path_factory.mktemp("keys")
    ring = json.loads((HERE / "keyring.json").read_text())
    public, secret = directory / "public.json", directory / "hmac.json"
    public.write_text(json.dumps(ring["ed25519"]))
    secret.touch(mode=0o600)
    secret.write_text(json.dumps(ring["hmac-sha256"]))
    return ["--keys", str(public), "--hmac-keys", str(secret)]


def verify(arguments, text):
    return subprocess.run(
        [CELLGATE, "verify", *arguments], input=text, capture_output=True, timeout=60, check=False
    )


def read_verdicts(stdout):
    verdicts = []
    for line in stdout.decode().splitlines():
        verdict, event_id, _reason = line.split("\t")
        if event_id.startswith('"'):
            event_id = json.loads(event_id)
        elif event_id == "-":
            event_id = None
        verdicts.append({"ok": verdict == "ok", "event_id": event_id})
    return verdicts


@pytest.mark.parametrize("case", [pytest.param(case, id=case["name"]) for case in CASES])
def test_the_verdicts_are_the_same(case, keys):
    done = verify(keys, case["text"].encode())
    assert read_verdicts(done.stdout) == case["verdicts"], done.stderr
    good = all(verdict["ok"] for verdict in case["verdicts"])
    bare = "bare-event" in case["name"] or case["name"].startswith("verify/wrapped-other-type")
    assert done.returncode == (0 if good else 2 if bare else 1)


def test_the_same_verdicts_come_line_by_line(keys):
    text = "\n".join(case["text"] for case in CASES)
    done = verify(keys, text.encode())
    assert read_verdicts(done.stdout) == [v for case in CASES for v in case["verdicts"]]
    assert done.returncode == 1
