"""`cellgate check`: what it says of good and bad configurations, and what it shows."""
import json
import os
import pathlib
import re
import subprocess

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
CELLGATE = os.environ["CELLGATE"]

MINIMAL = 'exporters:\n  - {name: out, type: jsonl, path: "-"}\n'


def check(*arguments, text=None):
    return subprocess.run([CELLGATE, "check", *arguments], input=text, capture_output=True,
                          text=True, timeout=60)


def check_text(text, *arguments):
    return check("--config", "-", *arguments, text=text)


@pytest.mark.parametrize("name, summary", [("cellgate.yaml", "ok: 1 cell, {} exporters\n"),
                                           ("quickstart.yaml", "ok: 3 cells, {} exporter\n")])
def test_our_own_files_are_good(name, summary):
    path = ROOT / "config" / name
    result = check("--config", path)
    summary = summary.format(len(yaml.safe_load(path.read_text())["exporters"]))
    assert (result.returncode, result.stdout, result.stderr) == (0, summary, "")


def contract_example():
    text = (ROOT / "docs" / "contract.md").read_text()
    (example,) = re.findall(r"^```yaml\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return example


def test_the_example_of_the_contract_is_good_and_sets_what_it_says():
    result = check_text(contract_example())
    assert (result.returncode, result.stdout, result.stderr) == (0, "ok: 1 cell, 2 exporters\n", "")
    shown = check_text(contract_example(), "--print")
    assert shown.returncode == 0
    for line in ("node: \"host-7\"", "  threads: 2", "  frames_burst: 20000", "  once: false",
                 "  mode: \"ed25519\"", "  max_bytes: 1GiB", "  when_full: pause"):
        assert line in shown.stdout.splitlines(), line


def test_every_problem_is_named_by_file_line_and_column(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(MINIMAL + "http:\n  lisen: x\nspool: {max_bytes: lots}\nnode: a\nnode: b\n")
    result = check("-c", path, "--set", "log.level=loud")
    assert result.returncode == 78
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        f"{path}:4:3: unknown key 'lisen' (did you mean 'listen'?)",
        f"{path}:5:20: max_bytes: expected a size of at least 1MiB (512, 64KiB, 1MiB), not 'lots'",
        f"{path}:7:1: duplicate key 'node'",
        "--set log.level: level: expected one of debug, info, warning, error, not 'loud'",
    ]


def test_a_missing_file_is_a_configuration_problem(tmp_path):
    result = check("--config", tmp_path / "none.yaml")
    assert result.returncode == 78
    assert result.stderr == f"{tmp_path}/none.yaml:1:1: cannot be opened: No such file or directory\n"


def test_a_directory_is_a_configuration_problem(tmp_path):
    result = check("--config", tmp_path)
    assert result.returncode == 78
    assert "cannot be read" in result.stderr


def test_wrong_usage_is_told_apart():
    assert check().returncode == 64
    assert check("--config").returncode == 64
    assert check("--nonsense").returncode == 64
    assert check("--config", "a", "b").returncode == 64
    assert check("--help").returncode == 0


def test_json_is_accepted():
    config = {"node": "h\u00f4te \U0001f600 \t\"/",
              "ingress": {"cells": [{"cell_id": f"c{i}", "run_id": "r",
                                     "spec_signature_hash": "sha256:00",
                                     "vsock_uds_base": f"/run/vm/{i}", "mode": "0660",
                                     "owner": [1000, 1000], "labels": {"\U0001f600": ""},
                                     "traceparent": None} for i in range(3)]},
              "signing": {"mode": False},
              "exporters": [{"name": "out", "type": "jsonl", "path": "-"}]}
    for options in ({}, {"indent": 2}, {"indent": "\t"}, {"ensure_ascii": False},
                    {"separators": (",", ":")}):
        result = check_text(json.dumps(config, **options))
        assert (result.returncode, result.stderr) == (0, ""), options
        assert result.stdout == "ok: 3 cells, 1 exporter\n"
    shown = check_text(json.dumps(config), "--print").stdout
    assert 'node: "h\u00f4te \U0001f600 \\u0009\\"/"\n' in shown
    assert '  mode: "off"\n' in shown


def test_print_shows_what_is_in_force_and_reads_back():
    first = check_text(MINIMAL, "--print", "--set", "spool.max_bytes=2MiB")
    assert first.returncode == 0
    assert "  max_bytes: 2MiB\n" in first.stdout
    assert '  listen: ["127.0.0.1:9464"]\n' in first.stdout
    second = check_text(first.stdout, "--print")
    assert second.stdout == first.stdout


def test_secrets_are_neither_printed_nor_cited():
    exporter = "{{name: c, type: cloudevents-http, url: '{url}', headers: {headers}}}\n"

    def text(url, headers):
        return "exporters:\n  - " + exporter.format(url=url, headers=headers)

    good = check_text(text("https://user:hunter2@h/", "{X-Key: hunter2}"), "--print")
    assert good.returncode == 0 and '"X-Key": "(hidden)"' in good.stdout
    bad = check_text(text("ftp://user:hunter2@h/", "[hunter2]"),
                     "--set", "exporters.c.timeout=https://user:hunter2@h/")
    assert bad.returncode == 78
    for output in (good.stdout, good.stderr, bad.stdout, bad.stderr):
        assert "hunter2" not in output


def test_the_reference_page_is_the_generated_one():
    result = check("--reference")
    assert result.returncode == 0
    assert result.stdout == (ROOT / "docs" / "configuration.md").read_text(), \
        "docs/configuration.md: write `cellgate check --reference` there"


def test_nothing_but_the_file_is_looked_at(tmp_path):
    missing = tmp_path / "missing"
    result = check_text(MINIMAL + f"state_dir: {missing}\nspool: {{dir: {missing}/spool}}\n"
                        f"signing: {{mode: ed25519, kid: k, key_file: {missing}/key}}\n")
    assert result.returncode == 0
    assert not missing.exists()


def test_a_full_disk_is_not_success():
    with open("/dev/full", "w") as full:
        result = subprocess.run([CELLGATE, "check", "--reference"], stdout=full,
                                stderr=subprocess.PIPE, text=True, timeout=60)
    assert result.returncode == 1
