"""`cellgate sign` against what the published implementation signs, byte for byte."""

import json
import os
import pathlib
import subprocess

import pytest

HERE = pathlib.Path(__file__).parent
CELLGATE = os.environ["CELLGATE"]


def load(name):
    with open(HERE / name, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


SIGN = load("sign.jsonl")
ENVIRONMENT = load("signing_env.jsonl")
PLAIN = next(case for case in SIGN if case["name"] == "sign/plain/off")


def named(cases):
    return [pytest.param(case, id=case["name"]) for case in cases]


def sign(arguments, event, environment=None):
    return subprocess.run(
        [CELLGATE, "sign", "--bare", *arguments],
        input=json.dumps(event).encode() + b"\n",
        capture_output=True,
        env=environment or {},
        timeout=60,
        check=False,
    )


def arguments_of(case, tmp_path):
    arguments = ["--mode", case["mode"]]
    if case["key_base64url"] is not None:
        key = tmp_path / "key"
        key.touch(mode=0o600)
        key.write_text(case["key_base64url"] + "\n")
        arguments += ["--key-file", str(key)]
    return arguments + ["--kid-json", json.dumps(case["kid"])]


@pytest.mark.parametrize("case", named(SIGN))
def test_an_event_becomes_the_same_envelope(case, tmp_path):
    done = sign(arguments_of(case, tmp_path), case["event"])
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode() == case["result"] + "\n"


@pytest.mark.parametrize("case", named(SIGN))
def test_the_canonical_bytes_are_their_own_canonical_form(case):
    done = sign(["--mode", "off"], json.loads(case["canonical"]))
    assert done.stdout.decode() == case["canonical"] + "\n"


@pytest.mark.parametrize("case", named([c for c in SIGN if c["kid"].isprintable()]))
def test_a_plain_kid_needs_no_json(case, tmp_path):
    arguments = arguments_of(case, tmp_path)[:-2] + ["--kid", case["kid"]]
    assert sign(arguments, case["event"]).stdout.decode() == case["result"] + "\n"


@pytest.mark.parametrize("case", named(ENVIRONMENT))
def test_the_environment_is_taken_or_refused_alike(case):
    done = sign([], PLAIN["event"], case["env"])
    if case["accept"]:
        assert done.returncode == 0, done.stderr
        assert done.stdout.decode() == case["result"] + "\n"
        return
    assert done.returncode == 78
    assert done.stdout == b""
    for name, value in case["env"].items():
        if name.endswith(("_KEY", "_SK", "_BASE64")) and len(value.strip("= ")) > 2:
            assert value.strip("= ") not in done.stderr.decode()
