"""`cellgate sign` and `cellgate verify` judged by Python's own json, hmac and cryptography."""

import base64
import copy
import hashlib
import hmac
import json
import os
import subprocess

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

CELLGATE = os.environ["CELLGATE"]
MEMBERS = ["specversion", "id", "source", "type", "datacontenttype", "data", "time", "traceparent"]
SEED = bytes(range(32))
SECRET = b"a secret of more than thirty-two bytes"
PREFIX = "dev.cellos.events.cell.observability.v1.guest."
ODD = 'q"\\/\b\f\n\r\t\0\x1f\x7fé語😀</script>\u2028'


def encode(raw):
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decode(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def canonical(event):
    """The canonical bytes, made without a line of cellgate's."""

    def render(value):
        return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))

    members = [f"{render(name)}:{render(event.get(name))}" for name in MEMBERS]
    return ("{" + ",".join(members) + "}").encode()


def make_event(sequence=1, run="run-1", event_id=None, **data):
    host = {"cellId": "cell-a", "connection": 1, "runId": run, "sequence": sequence}
    return {
        "data": {
            "runId": run,
            "host": host,
            "guest": {"guestMonotonicNs": 2**64 - 1, "guestComm": ODD, "guestPid": 4242},
            "cellId": "cell-a",
            "provenance": "declared",
            **data,
        },
        "traceparent": None,
        "time": "2026-11-23T11:00:00.123456789Z",
        "type": PREFIX + "process_spawned",
        "specversion": "1.0",
        "source": "/cellos-supervisor/host-telemetry",
        "id": event_id or f"0199-{run}-{sequence}",
        "datacontenttype": "application/json",
    }


def make_dropped(sequence, ranges, **more):
    event = make_event(sequence, provenance="observed", **more)
    event["type"] = PREFIX + "telemetry.dropped"
    event["data"]["drops"] = {"overflow": {"count": 1, "ranges": ranges}}
    return event


class Keys:
    """A key of each mode, in files as cellgate takes them."""

    def __init__(self, directory):
        private = Ed25519PrivateKey.from_private_bytes(SEED)
        self.public = private.public_key()
        raw = self.public.public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.files = {
            "ed25519": self.write(directory / "seed", encode(SEED)),
            "hmac-sha256": self.write(directory / "hmac", encode(SECRET)),
        }
        self.verify = [
            "--keys", str(self.write(directory / "public.json", json.dumps({"k": encode(raw)}))),
            "--hmac-keys", str(self.write(directory / "h.json", json.dumps({"k": encode(SECRET)}))),
        ]

    @staticmethod
    def write(path, text):
        path.touch(mode=0o600)
        path.write_text(text)
        return path

    def signs(self, envelope):
        signature, message = decode(envelope["signature"]), canonical(envelope["event"])
        if envelope["algorithm"] == "hmac-sha256":
            return signature == hmac.new(SECRET, message, hashlib.sha256).digest()
        try:
            self.public.verify(signature, message)
            return True
        except InvalidSignature:
            return False


@pytest.fixture(name="keys")
def make_keys(tmp_path):
    return Keys(tmp_path)


def run(command, *arguments, text=b"", environment=None):
    return subprocess.run(
        [CELLGATE, command, *map(str, arguments)],
        input=text, capture_output=True, env=environment or {}, timeout=60, check=False,
    )


def lines_of(events):
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


def sign(keys, events, mode="hmac-sha256", *arguments):
    done = run("sign", "--mode", mode, "--kid", "k", "--key-file", keys.files[mode], *arguments,
               text=lines_of(events))
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def verify(keys, text, *arguments):
    done = run("verify", *keys.verify, *arguments, text=text)
    return done.returncode, [line.split("\t") for line in done.stdout.decode().splitlines()], done


BOTH = pytest.mark.parametrize("mode", ["hmac-sha256", "ed25519"])


@BOTH
def test_python_verifies_what_was_signed_and_the_bytes_are_canonical(keys, mode):
    event = make_event(**{"zz": [1, -(2**63), {"é": {}, "b": [], "B": True}], ODD: ODD})
    (line,) = sign(keys, [event], mode)
    outside = json.loads(line)
    envelope = outside["data"]
    assert list(outside) == ["specversion", "id", "source", "type", "datacontenttype", "data", "time"]
    assert outside["type"] == "dev.cellos.events.signed_envelope.v1"
    assert outside["source"] == "/cellos-supervisor/event-signing"
    assert (outside["id"], outside["time"]) == (event["id"], event["time"])
    assert list(envelope) == ["event", "signerKid", "algorithm", "signature"]
    assert envelope["event"] == event and "=" not in envelope["signature"]
    assert b'"data":{"event":' + canonical(event) + b',"signerKid":"k","algorithm":"' in line
    assert keys.signs(envelope)
    assert run("sign", "--mode", "off", text=lines_of([event])).stdout == canonical(event) + b"\n"


@BOTH
def test_bare_is_the_envelope_alone(keys, mode):
    event = make_event()
    (whole,), (bare,) = sign(keys, [event], mode), sign(keys, [event], mode, "--bare")
    assert json.loads(whole)["data"] == json.loads(bare)
    assert bare in whole


def test_a_traceparent_and_an_odd_id_go_on_the_transport_event(keys):
    event = make_event(event_id=ODD) | {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-01"}
    (line,) = sign(keys, [event])
    outside = json.loads(line)
    assert (outside["id"], outside["traceparent"]) == (ODD, event["traceparent"])
    assert keys.signs(outside["data"])
    code, ((verdict, event_id, _),), _ = verify(keys, line)
    assert (code, verdict, json.loads(event_id)) == (0, "ok", ODD)


@BOTH
def test_every_changed_or_lost_field_fails(keys, mode):
    envelope = json.loads(sign(keys, [make_event()], mode, "--bare")[0])
    tampered = []

    def walk(value, path):
        if isinstance(value, dict):
            for name in value:
                walk(value[name], path + [name])
        for change in ("lose", "change"):
            forged = copy.deepcopy(envelope)
            place = forged["event"]
            for name in path[:-1]:
                place = place[name]
            if not path or (change == "lose" and value is None):
                continue
            if change == "lose":
                del place[path[-1]]
            else:
                place[path[-1]] = (value + 1 if isinstance(value, int) and value < 2**64 - 1 else
                                   value + "x" if isinstance(value, str) else
                                   value | {"new": 1} if isinstance(value, dict) else "other")
            tampered.append(forged)

    walk(envelope["event"], [])
    assert len(tampered) > 30
    code, verdicts, done = verify(keys, lines_of(tampered))
    assert code == 1
    assert [v[0] for v in verdicts] == ["fail"] * len(tampered), done.stdout
    assert not any(keys.signs(forged) for forged in tampered)


@BOTH
def test_spelling_does_not_matter_but_numbers_do(keys, mode):
    envelope = json.loads(sign(keys, [make_event()], mode, "--bare")[0])
    shuffled = {name: envelope[name] for name in reversed(list(envelope))}
    shuffled["event"] = {name: envelope["event"][name] for name in sorted(envelope["event"])}
    del shuffled["event"]["traceparent"]
    pretty = json.dumps(shuffled, indent=2).encode()
    code, verdicts, _ = verify(keys, pretty)
    assert code == 0 and verdicts == [["ok", envelope["event"]["id"], "signed by k"]]
    code, verdicts, _ = verify(keys, pretty.replace(b": 4242", b": 4242.0"))
    assert code == 1 and verdicts[0][:2] == ["fail", envelope["event"]["id"]]


def test_one_a_batch_and_lines_are_all_read(keys, tmp_path):
    signed = sign(keys, [make_event(n) for n in (1, 2, 3)])
    batch = b"[" + b",\n".join(signed) + b"]"
    files = []
    for name, text in (("one", signed[0]), ("batch", batch), ("lines", b"\r\n\n".join(signed)),
                       ("empty-batch", b"[]"), ("batches", b"[" + b",".join(signed) + b"]\n" * 2)):
        files.append(tmp_path / name)
        files[-1].write_bytes(text)
    files[-1].write_bytes((b"[" + b",".join(signed) + b"]\n") * 2)
    code, verdicts, done = verify(keys, b"", *files)
    assert (code, [v[0] for v in verdicts]) == (0, ["ok"] * (1 + 3 + 3 + 0 + 6)), done.stderr
    assert b"13 ok" in done.stderr
    code, verdicts, _ = verify(keys, signed[0], "-")
    assert (code, len(verdicts)) == (0, 1)


def test_a_damaged_line_fails_alone(keys):
    signed = sign(keys, [make_event(n) for n in (1, 2, 3)])
    for damaged in (0, 1, 2):
        lines = list(signed)
        lines[damaged] = lines[damaged][:-40]
        code, verdicts, _ = verify(keys, b"\n".join(lines))
        assert code == 1
        assert [v[0] for v in verdicts] == ["fail" if n == damaged else "ok" for n in range(3)]
        assert verdicts[damaged][1] == "-"


def test_exit_codes_tell_unsigned_from_failed(keys):
    (signed,) = sign(keys, [make_event()])
    bare = lines_of([make_event()])
    assert verify(keys, signed)[0] == 0
    assert verify(keys, b"")[0] == 2
    assert verify(keys, b"[]\n")[0] == 2
    code, verdicts, _ = verify(keys, bare)
    assert (code, verdicts) == (2, [["fail", "-", "unsigned"]])
    assert verify(keys, bare + signed)[0] == 1
    assert verify(keys, b"not JSON")[0] == 1
    assert run("verify", *keys.verify, "/nonexistent").returncode == 1
    assert run("verify").returncode == 64
    assert run("verify", "--wrong").returncode == 64


def test_what_is_not_signed_is_warned_of(keys):
    (line,) = sign(keys, [make_event()])
    event = json.loads(line)
    assert b"0 warnings" in verify(keys, line)[2].stderr
    event["subject"], event["id"] = "outside", "another"
    event["data"]["event"]["subject\x1b[31m"] = "inside"
    event["data"]["notBefore"] = "2999-01-01T00:00:00Z"
    code, verdicts, done = verify(keys, lines_of([event]))
    assert code == 0 and verdicts[0][1] == event["data"]["event"]["id"]
    words = done.stderr.decode()
    assert words.count("warning: ") == 4 and "4 warnings" in words
    assert "subject" in words and "2999-01-01" in words and "not the signed one" in words
    assert "\x1b" not in words


def test_keys_files_are_taken_only_in_order(keys, tmp_path):
    (signed,) = sign(keys, [make_event()])
    secret = tmp_path / "h.json"
    secret.chmod(0o644)
    assert run("verify", *keys.verify, text=signed).returncode == 78
    secret.chmod(0o600)
    for text in ('{"k":"QQ","k":"QQ"}', "[]", '{"k":"+/+/"}', '{"k":7}', "", '{"k":"QQ"} x'):
        secret.write_text(text)
        done = run("verify", "--hmac-keys", secret, text=signed)
        assert (done.returncode, done.stdout) == (78, b""), text
        assert b"QQ" not in done.stderr
    public = tmp_path / "p.json"
    public.write_text('{"k":"QUFB"}')
    assert run("verify", "--keys", public, text=signed).returncode == 78


@pytest.mark.parametrize("number", ["4242.0", "1e3", "-0", str(2**64), str(-(2**63) - 1)])
def test_a_number_of_two_spellings_is_not_signed(keys, number):
    good = make_event()
    text = json.dumps(good).replace("4242", number).encode() + b"\n" + lines_of([good])
    done = run("sign", "--mode", "ed25519", "--kid", "k", "--key-file", keys.files["ed25519"],
               text=text)
    assert done.returncode == 1
    assert done.stdout.splitlines() == sign(keys, [good], "ed25519")
    assert b"line 1" in done.stderr


def test_sign_refuses_what_is_no_event(keys):
    for text in (b"{}", b"[]", b'{"specversion":"1.0"}', b"x", b'{"a":1}{"a":1}',
                 json.dumps(make_event()).encode()[:-1] + b',"id":"again"}',
                 json.dumps(make_event()).encode().replace(b"cell-a", b"\xff")):
        done = run("sign", "--mode", "hmac-sha256", "--kid", "k", "--key-file",
                   keys.files["hmac-sha256"], text=text)
        assert (done.returncode, done.stdout) == (1, b""), text


def test_sign_never_shows_a_key_and_never_falls_back(keys, tmp_path):
    bad = tmp_path / "bad"
    for mode, text in (("ed25519", encode(SEED[:31])), ("ed25519", encode(SEED + b"x")),
                       ("hmac-sha256", "not base64url! " + encode(SECRET)), ("rsa", encode(SEED)),
                       ("off", encode(SEED))):
        bad.touch(mode=0o600)
        bad.write_text(text)
        done = run("sign", "--mode", mode, "--kid", "k", "--key-file", bad, text=lines_of([make_event()]))
        assert (done.returncode, done.stdout) == (78, b"")
        assert text[-20:].encode() not in done.stderr
    assert run("sign", "--kid", "k", "--kid-json", '"k"').returncode == 64
    assert run("sign", "--kid-json", "k").returncode == 64
    assert run("sign", "surplus").returncode == 64


GAPS = {
    "whole": ([1, 2, 3], [], []),
    "in the middle": ([1, 2, 4, 7], [], [["missing", "3"], ["missing", "5-6"]]),
    "at the head": ([3, 4], [], [["missing", "1-2"]]),
    "repeated": ([1, 2, 2, 3, 1, 1], [], [["repeated", "1-2"]]),
    "out of order": ([3, 1, 5, 2, 4], [], []),
    "named": ([1, 2, 6], [[[3, 4], [5, 5]]], []),
    "named in part": ([1, 2, 7], [[[4, 5]]], [["missing", "3"], ["missing", "6"]]),
    "named twice": ([1, 9], [[[2, 6]], [[4, 8]]], []),
    "named beyond what was seen": ([1, 2], [[[5, 2**64 - 1]]], [["missing", "3-4"]]),
}


@pytest.mark.parametrize("seen,named,expected", GAPS.values(), ids=list(GAPS))
def test_gaps_are_found_unless_they_are_named(keys, seen, named, expected):
    """The dropped events are numbered too: they stand at the head, the others behind them."""
    shift = len(named)
    events = [make_dropped(n + 1, [[a + shift, min(b + shift, 2**64 - 1)] for a, b in ranges])
              for n, ranges in enumerate(named)]
    events += [make_event(n + shift) for n in seen]

    def shifted(interval):
        return "-".join(str(int(n) + shift) for n in interval.split("-"))

    code, lines, done = verify(keys, b"\n".join(sign(keys, events)), "--gaps")
    assert code == (1 if expected else 0), done.stderr
    found = [line for line in lines if line[0] not in ("ok", "fail")]
    assert found == [[what, "cell-a/run-1", shifted(where)] for what, where in expected]


def test_runs_are_told_apart_and_only_the_gateways_word_names_a_gap(keys):
    events = [make_event(n, run) for n in (1, 3) for run in ("run-b", "run-a")]
    forged = make_dropped(4, [[2, 2]])
    forged["data"]["provenance"] = "declared"
    events += [make_event(n) for n in (1, 3)] + [forged]
    code, lines, _ = verify(keys, b"\n".join(sign(keys, events)), "--gaps")
    assert code == 1
    assert lines[-3:] == [["missing", f"cell-a/run-{name}", "2"] for name in ("1", "a", "b")]


def test_an_event_that_fails_fills_no_gap(keys):
    signed = sign(keys, [make_event(n) for n in (1, 2, 3)])
    signed[1] = signed[1].replace(b'"guestPid":4242', b'"guestPid":4243')
    code, lines, _ = verify(keys, b"\n".join(signed) + b"\n" + lines_of([make_event(2)]), "--gaps")
    assert code == 1 and lines[-1] == ["missing", "cell-a/run-1", "2"]


def test_flat_probe_events_count_and_unsigned_ones_only_among_themselves(keys):
    flat = make_event(2)
    flat["data"] = {"cellId": "cell-a", "runId": "run-1", "sequence": 2, "output": {}}
    events = [make_event(1), flat, make_event(4)]
    code, lines, done = verify(keys, lines_of(events), "--gaps")
    assert code == 1 and lines[-1] == ["missing", "cell-a/run-1", "3"]
    assert b"unsigned" in done.stderr
    assert verify(keys, lines_of(events[:2]), "--gaps")[0] == 2


def test_many_events_out_of_order_are_accounted_for(keys):
    numbers = [n for n in range(1, 6001) if n % 100]
    shuffled = numbers[1::2] + numbers[::2] + numbers[:10]
    events = [make_event(n) for n in shuffled]
    text = run("sign", "--mode", "hmac-sha256", "--kid", "k", "--key-file", keys.files["hmac-sha256"],
               text=lines_of(events)).stdout
    code, lines, done = verify(keys, text, "--gaps")
    assert code == 1
    found = [line for line in lines if line[0] not in ("ok", "fail")]
    assert found == [["missing", "cell-a/run-1", str(n)] for n in range(100, 6000, 100)] + [
        ["repeated", "cell-a/run-1", "1-10"]]
    assert b"59 sequence numbers missing, 10 repeated" in done.stderr
