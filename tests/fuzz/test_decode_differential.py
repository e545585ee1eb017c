"""`cellgate decode` against the plain second decoder of tests/support, on seeded cases.

CELLGATE_FUZZ_CASES and CELLGATE_FUZZ_SEED ask for more, or others.
"""

import json
import os
import pathlib
import subprocess

from support import cbor_cases, cbor_oracle

GOLDEN = pathlib.Path(__file__).parent.parent / "golden" / "decode.jsonl"
CASES = int(os.environ.get("CELLGATE_FUZZ_CASES", "20000"))
SEED = int(os.environ.get("CELLGATE_FUZZ_SEED", "1"))
BATCH = 5000


def known_bodies():
    with GOLDEN.open() as lines:
        bodies = [bytes.fromhex(json.loads(line)["body_hex"]) for line in lines]
    return [body for body in bodies if len(body) < 4096]


def ask_gateway(bodies):
    """The gateway's verdicts, in the oracle's form."""
    text = "".join(body.hex() + "\n" for body in bodies)
    done = subprocess.run(
        [os.environ["CELLGATE"], "decode"], input=text.encode(), capture_output=True, timeout=300
    )
    assert done.stderr == b""
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(bodies)
    return [(a["accept"], a.get("error_class"), a.get("guest")) for a in answers]


def test_both_decoders_agree_on_every_case():
    bodies = list(cbor_cases.cases(SEED, CASES, known_bodies()))
    accepted = 0
    for start in range(0, len(bodies), BATCH):
        batch = bodies[start : start + BATCH]
        for body, answer in zip(batch, ask_gateway(batch)):
            expected = cbor_oracle.decode(body)
            assert answer == expected, body.hex()
            accepted += answer[0]
    # Cases that are all refused would prove little.
    assert CASES * 0.1 < accepted < CASES * 0.9
