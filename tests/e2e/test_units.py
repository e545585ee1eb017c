"""The units that are installed: what systemd says of them, and that they hold together."""

import os
import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[2]
UNIT = ROOT / "config" / "cellgate.service"
DROP_INS = ROOT / "config" / "cellgate.service.d"

analyze = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(analyze is None, reason="systemd-analyze is not installed")


def unit_with(directory, *drop_ins):
    """A copy of the unit with some of its drop-ins."""
    directory.mkdir()
    unit = directory / "cellgate.service"
    unit.write_text(UNIT.read_text())
    (directory / "cellgate.service.d").mkdir()
    for name in drop_ins:
        text = (DROP_INS / f"{name}.conf").read_text()
        (directory / "cellgate.service.d" / f"{name}.conf").write_text(text)
    return unit


def exposure(unit):
    done = subprocess.run([analyze, "security", "--offline=true", "--no-pager", str(unit)],
                          capture_output=True, text=True, timeout=120)
    line = next(line for line in done.stdout.splitlines() if "Overall exposure level" in line)
    return float(line.partition("cellgate.service:")[2].split()[0])


@needs_systemd
@pytest.mark.parametrize("drop_ins,most", [((), 2.0), (("jailed",), 2.0), (("probes",), 2.6),
                                           (("jailed", "probes"), 2.6)])
def test_the_unit_exposes_little(tmp_path, drop_ins, most):
    assert "IPAddressDeny" not in UNIT.read_text()
    assert 0 < exposure(unit_with(tmp_path / "unit", *drop_ins)) <= most


@needs_systemd
def test_systemd_understands_every_line(tmp_path):
    unit = unit_with(tmp_path / "unit", "jailed", "probes")
    program = shutil.which("true")
    unit.write_text(unit.read_text().replace("/usr/bin/cellgate run", f"{program} run"))
    done = subprocess.run([analyze, "verify", "--recursive-errors=no", "--man=no", str(unit)],
                          capture_output=True, text=True, timeout=120,
                          env={**os.environ, "SYSTEMD_LOG_LEVEL": "warning"})
    complaints = [line for line in done.stderr.splitlines() if "cellgate" in line]
    assert complaints == []


def test_the_unit_starts_what_the_configuration_describes():
    text = UNIT.read_text()
    for line in ("Type=notify", "User=cellgate", "StateDirectory=cellgate",
                 "RuntimeDirectory=cellgate", "ExecReload=kill -HUP $MAINPID",
                 "Restart=on-failure", "NoNewPrivileges=yes", "CapabilityBoundingSet="):
        assert line in text.splitlines(), line
    example = (ROOT / "config" / "cellgate.yaml").read_text()
    assert "/var/lib/cellgate" in example and "/run/cellgate" in example
    assert "SystemCallFilter=@chown capset seccomp landlock" in text, "the sandbox needs these"
