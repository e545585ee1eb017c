"""decode.jsonl and streams.jsonl: `cellgate decode` must agree line for line."""

import json
import os
import pathlib
import subprocess

import pytest

CELLGATE = os.environ["CELLGATE"]
GOLDEN = pathlib.Path(__file__).parent
MEMBERS = ["content_version", "probe_source", "guest_pid", "guest_comm", "guest_monotonic_ns"]
GOOD = (
    "a56f636f6e74656e745f76657273696f6e016c70726f62655f736f757263656f70726f636573732e737061776e6564"
    "6967756573745f7069641910926a67756573745f636f6d6d646375726c7267756573745f6d6f6e6f746f6e69635f6e"
    "731b0000011f71fb04cb"
)
GOOD_ANSWER = (
    b'{"accept":true,"guest":{"content_version":1,"probe_source":"process.spawned","guest_pid":4242,'
    b'"guest_comm":"curl","guest_monotonic_ns":1234567890123}}\n'
)


def cases(name):
    with (GOLDEN / name).open() as lines:
        return [json.loads(line) for line in lines]


def decode(data, *arguments):
    done = subprocess.run([CELLGATE, "decode", *arguments], input=data, capture_output=True, timeout=120)
    assert done.stderr == b""
    return done.returncode, done.stdout


def answers(data, *arguments):
    code, out = decode(data, *arguments)
    return code, [json.loads(line) for line in out.splitlines()]


def without_version(guest):
    assert list(guest) == MEMBERS
    return {name: guest[name] for name in MEMBERS[1:]}


def verdict(answer):
    """An answer in the form of the vectors."""
    if answer["accept"]:
        assert set(answer) == {"accept", "guest"}
        return True, None, without_version(answer["guest"])
    assert set(answer) == {"accept", "error_class", "error"}
    assert answer["error"]
    return False, answer["error_class"], None


def test_every_body_gets_the_verdict_of_the_vectors():
    vectors = cases("decode.jsonl")
    code, got = answers("".join(case["body_hex"] + "\n" for case in vectors).encode())
    assert code == 1
    assert len(got) == len(vectors) > 900
    for case, answer in zip(vectors, got):
        assert verdict(answer) == (case["accept"], case["error_class"], case["guest"]), case["name"]


@pytest.mark.parametrize("case", cases("streams.jsonl"), ids=lambda case: case["name"])
def test_every_stream_gives_the_frames_and_the_end_of_the_vectors(case):
    code, got = answers(bytes.fromhex(case["stream_hex"]), "--frames")
    accepted = [without_version(answer["guest"]) for answer in got if answer["accept"]]
    assert accepted == case["frames"]
    ends = [answer["error_class"] for answer in got if not answer["accept"]]
    assert ends == ([] if case["end"] == "eof" else [case["end"]])
    assert code == (0 if case["end"] == "eof" else 1)


def test_an_answer_is_exact_to_the_byte():
    assert decode(GOOD.encode() + b"\n") == (0, GOOD_ANSWER)


@pytest.mark.parametrize("text", [GOOD, GOOD.upper() + "\n", GOOD + "\r\n"])
def test_case_and_line_ends_do_not_matter(text):
    assert decode(text.encode()) == (0, GOOD_ANSWER)


def test_an_empty_line_is_an_empty_body():
    code, (first, second) = answers(b"\n" + GOOD.encode() + b"\n")
    assert code == 1
    assert verdict(first) == (False, "wire", None)
    assert second["accept"]


def test_no_input_is_no_frame():
    assert decode(b"") == (0, b"")
    assert decode(b"", "--frames") == (0, b"")


@pytest.mark.parametrize("text", ["0", "zz", "a5 6f", " ", GOOD + " ", "\r\r", "\r" + GOOD, GOOD + "\0", "é"])
def test_what_is_not_hexadecimal_is_refused_by_line(text):
    code, (bad, good) = answers(text.encode() + b"\n" + GOOD.encode() + b"\n")
    assert code == 1
    assert bad == {"accept": False, "error_class": "wire", "error": "not hexadecimal"}
    assert good["accept"]


def padded(length):
    """A good body of `length` bytes: an unknown key takes what is left."""
    body = bytearray(bytes.fromhex(GOOD))
    body[0] = 0xA6
    filler = length - len(body) - 2 - 5
    return bytes(body) + b"\x61z" + b"\x5a" + filler.to_bytes(4, "big") + bytes(filler)


def test_the_longest_body_is_accepted_and_one_byte_more_is_not():
    assert decode(padded(65536).hex().encode()) == (0, GOOD_ANSWER)
    code, (answer,) = answers(padded(65537).hex().encode())
    assert code == 1
    assert answer["error"].startswith("length")
    body = padded(65536)
    assert decode(len(body).to_bytes(4, "little") + body, "--frames") == (0, GOOD_ANSWER)


def test_a_line_without_end_is_refused_when_it_ends():
    code, (answer, good) = answers(b"00" * 5_000_000 + b"\n" + GOOD.encode())
    assert code == 1
    assert answer["error"].startswith("length")
    assert good["accept"]


def test_texts_are_escaped_in_the_canonical_way_and_integers_keep_every_digit():
    comm = '"\\/\b\t\n\f\r\x00\x1f\x7fé\u2028😀'.encode()
    body = (
        b"\xa5\x6fcontent_version\x18\xff\x6cprobe_source\x60\x69guest_pid\x1a\xff\xff\xff\xff"
        b"\x6aguest_comm\x78" + bytes([len(comm)]) + comm + b"\x72guest_monotonic_ns\x1b" + b"\xff" * 8
    )
    expected = (
        '{"accept":true,"guest":{"content_version":255,"probe_source":"","guest_pid":4294967295,'
        '"guest_comm":"\\"\\\\/\\b\\t\\n\\f\\r\\u0000\\u001f\x7fé\u2028😀",'
        '"guest_monotonic_ns":18446744073709551615}}\n'
    )
    assert decode(body.hex().encode()) == (0, expected.encode())


def test_answers_come_before_the_input_ends():
    process = subprocess.Popen([CELLGATE, "decode"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdin.write(GOOD.encode() + b"\n")
    process.stdin.flush()
    assert process.stdout.readline() == GOOD_ANSWER
    process.stdin.close()
    assert process.wait(timeout=60) == 0
    process.stdout.close()


def test_a_stream_may_arrive_in_any_pieces():
    frame = (len(GOOD) // 2).to_bytes(4, "little") + bytes.fromhex(GOOD)
    process = subprocess.Popen(
        [CELLGATE, "decode", "--frames"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    )
    for byte in frame * 3:
        process.stdin.write(bytes([byte]))
    process.stdin.close()
    assert process.stdout.read() == 3 * GOOD_ANSWER
    assert process.wait(timeout=60) == 0
    process.stdout.close()


def test_nothing_is_read_into_frames_behind_the_first_refusal():
    frame = (len(GOOD) // 2).to_bytes(4, "little") + bytes.fromhex(GOOD)
    code, got = answers(frame + b"\0\0\0\0" + frame, "--frames")
    assert code == 1
    assert [answer["accept"] for answer in got] == [True, False]


def test_help_and_wrong_usage():
    done = subprocess.run([CELLGATE, "decode", "--help"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: cellgate decode")
    for wrong in (["--bogus"], ["file"]):
        done = subprocess.run([CELLGATE, "decode", *wrong], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout) == (64, "")
        assert done.stderr


def test_output_that_cannot_be_written_is_a_failure():
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [CELLGATE, "decode"], input=GOOD.encode(), stdout=full, stderr=subprocess.PIPE, timeout=60
        )
    assert done.returncode == 1
    assert b"cannot write" in done.stderr
