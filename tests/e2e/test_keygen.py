"""`cellgate keygen` and `cellgate version`, judged by what Python's cryptography makes of the files."""

import base64
import json
import os
import stat
import subprocess

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

CELLGATE = os.environ["CELLGATE"]


def run(*arguments, umask=0o022, **options):
    return subprocess.run([CELLGATE, *arguments], capture_output=True, timeout=60, umask=umask, **options)


def keygen(directory, kid, *more, **options):
    return run("keygen", "--kid", kid, "--out", str(directory), *more, **options)


def decode(text):
    assert "=" not in text and "+" not in text and "/" not in text
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


def test_the_public_key_belongs_to_the_seed(tmp_path):
    done = keygen(tmp_path, "ops-2026")
    assert (done.returncode, done.stderr) == (0, b"")
    key, keys = tmp_path / "ops-2026.key", tmp_path / "ops-2026.keys.json"
    assert done.stdout.decode().split() == [str(key), str(keys)]
    seed = decode(key.read_text().rstrip("\n"))
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes(
        serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    ring = json.loads(keys.read_text())
    assert list(ring) == ["ops-2026"]
    assert decode(ring["ops-2026"]) == public


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o277])
def test_only_the_owner_reads_the_key_whatever_the_umask(tmp_path, umask):
    assert keygen(tmp_path, "k", umask=umask).returncode == 0
    assert mode(tmp_path / "k.key") == 0o600
    assert mode(tmp_path / "k.keys.json") == 0o644


@pytest.mark.parametrize("name", ["hmac-sha256", "hmac"])
def test_an_hmac_key_is_secret_in_both_files(tmp_path, name):
    assert keygen(tmp_path, "k", "--mode", name).returncode == 0
    key, keys = tmp_path / "k.key", tmp_path / "k.keys.json"
    secret = decode(key.read_text().rstrip("\n"))
    assert len(secret) == 32
    assert decode(json.loads(keys.read_text())["k"]) == secret
    assert mode(key) == mode(keys) == 0o600


def test_keys_differ_from_call_to_call(tmp_path):
    for kid in ("a", "b"):
        assert keygen(tmp_path, kid).returncode == 0
    assert (tmp_path / "a.key").read_bytes() != (tmp_path / "b.key").read_bytes()


@pytest.mark.parametrize("existing", ["k.key", "k.keys.json"])
@pytest.mark.parametrize("kind", ["file", "directory", "dangling symlink"])
def test_nothing_that_exists_is_overwritten_and_nothing_half_made_is_left(tmp_path, existing, kind):
    path = tmp_path / existing
    if kind == "file":
        path.write_text("mine")
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "elsewhere")
    done = keygen(tmp_path, "k")
    assert done.returncode == 1
    assert existing.encode() in done.stderr
    assert os.listdir(tmp_path) == [existing]
    assert kind != "file" or path.read_text() == "mine"


@pytest.mark.parametrize("kid", ["", " ", ".", "..", ".hidden", "a/b", "../k", "/k", "a\nb", "a\x7f",
                                 "k" * 246, "é" * 123])
def test_a_kid_that_cannot_be_a_file_name_is_refused(tmp_path, kid):
    inside = tmp_path / "inside"
    inside.mkdir()
    done = keygen(inside, kid)
    assert done.returncode == 1
    assert b"kid" in done.stderr
    assert os.listdir(tmp_path) == ["inside"] and os.listdir(inside) == []


def test_a_kid_that_is_not_utf8_is_refused(tmp_path):
    done = run("keygen", "--kid", b"\xff", "--out", str(tmp_path))
    assert done.returncode == 1 and b"UTF-8" in done.stderr


@pytest.mark.parametrize("kid", ['a"b\\c', "Schlüssel 1", "k" * 245, "-k"])
def test_any_other_kid_is_a_member_of_the_keys_file(tmp_path, kid):
    assert keygen(tmp_path, kid).returncode == 0
    assert list(json.loads((tmp_path / f"{kid}.keys.json").read_text())) == [kid]


def test_a_directory_that_is_missing_is_named(tmp_path):
    done = keygen(tmp_path / "missing", "k")
    assert done.returncode == 1 and b"missing" in done.stderr
    assert os.listdir(tmp_path) == []


def test_a_full_disk_leaves_nothing(tmp_path):
    """RLIMIT_FSIZE makes the write fail as a full disk would, but for the errno."""
    import resource
    import signal

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50, 50))

    done = keygen(tmp_path, "k" * 100, preexec_fn=limit)  # the key fits, the keys file does not
    assert done.returncode == 1 and b"keys.json" in done.stderr
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("arguments", [[], ["--kid", "k"], ["--out", "."], ["--kid"], ["--nonsense"],
                                       ["--kid", "k", "--out", ".", "more"],
                                       ["--kid", "k", "--out", ".", "--mode", "rsa"]])
def test_a_wrong_command_line_is_usage(tmp_path, arguments):
    assert run("keygen", *arguments, cwd=tmp_path).returncode == 64
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("command", ["keygen", "version"])
def test_help_is_asked_for_and_answered(command):
    done = run(command, "--help")
    assert done.returncode == 0 and done.stdout.startswith(b"usage: cellgate " + command.encode())


def test_the_version_names_what_is_built_in():
    lines = run("version").stdout.decode().splitlines()
    said = json.loads(run("version", "--json").stdout)
    assert said["name"] == "cellgate"
    assert lines[0] == f"cellgate {said['version']}"
    assert lines[1:] == [f"{name} {version}" for name, version in said["libraries"].items()] + [
        f"exporter {kind}" for kind in said["exporters"]]
    assert {"openssl", "libsodium"} <= set(said["libraries"])
    assert {"cloudevents-http", "jsonl"} <= set(said["exporters"])
    assert run("--version").stdout.decode().splitlines() == lines
    assert run("version", "extra").returncode == 64
