"""`cellgate version` says what is built in."""

import json
import os
import subprocess

CELLGATE = os.environ["CELLGATE"]


def version(*arguments):
    done = subprocess.run([CELLGATE, "version", *arguments], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
    return done.stdout


def test_exporters_and_the_libraries_they_bring_are_listed():
    found = json.loads(version("--json"))
    exporters = found["exporters"]
    assert {"cloudevents-http", "jsonl"} <= set(exporters)
    otlp = {"otlp-grpc", "otlp-http"} & set(exporters)
    assert ("protobuf-c" in found["libraries"]) == bool(otlp)
    assert all(found["libraries"].values())
