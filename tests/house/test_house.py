"""The rules of the house that can be read off the source: which folder may include which, and what
is not written anywhere."""
import os
import pathlib
import re
import shutil
import subprocess

import pytest

from house import metrics_reference

ROOT = pathlib.Path(__file__).resolve().parents[2]

# A folder may include itself and what stands before it; exporters/ only base/, the public headers and
# the strict JSON reader and writer, which know nothing of events.
ORDER = ["base", "event", "spool", "cells", "ingress", "probes", "delivery", "http", "run", "cmd"]
# The configuration is composed of the exporters' own option tables.
ALSO = {"run": {"exporters"}, "cmd": {"exporters"}}

INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)


def sources(*folders, suffixes=(".c", ".h", ".def")):
    found = []
    for folder in folders:
        found += [p for p in sorted((ROOT / folder).rglob("*")) if p.suffix in suffixes]
    assert found
    return found


def code(path):
    """The text with comments and string literals blanked, line numbers kept."""
    text = path.read_text()

    def blank(match):
        return re.sub(r"[^\n]", " ", match.group(0))

    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', blank, text, flags=re.DOTALL)


def may_include(path, target):
    top = target.split("/")[0]
    if top == "cellgate":
        return True
    parts = path.relative_to(ROOT).parts
    if parts[0] == "exporters":
        return top in {"exporters", "base"} or target in {"event/json.h", "event/json_write.h"}
    folder = parts[1] if len(parts) > 2 else None
    if folder is None:  # main.c and gateway.c join everything
        return True
    return top in set(ORDER[: ORDER.index(folder) + 1]) | ALSO.get(folder, set()) or (
        folder == "cmd" and target == "gateway.h")


def test_includes_follow_the_way_of_an_event():
    wrong = [f"{path.relative_to(ROOT)}: {target}"
             for path in sources("gateway", "exporters")
             for target in INCLUDE.findall(path.read_text()) if not may_include(path, target)]
    assert wrong == []


def test_public_headers_use_only_public_headers():
    wrong = [f"{path.name}: {target}" for path in sources("include")
             for target in INCLUDE.findall(path.read_text()) if not target.startswith("cellgate/")]
    assert wrong == []


@pytest.mark.parametrize("pattern,allowed", [
    (r"\b(v?sprintf|strcpy|strcat|stpcpy|gets|atoi|atol|atof|strtok|alloca)\s*\(", set()),
    (r"\b(system|popen|execl\w*|execv\w*|posix_spawnp?)\s*\(", set()),
    (r"\b(exit|_exit|quick_exit)\s*\(", {"gateway/main.c"}),
    (r"\b(rand|srand|random|drand48)\s*\(", set()),
    (r"\b(sleep|usleep|nanosleep)\s*\(", set()),
    (r"\bTODO|FIXME|XXX\b", set()),
])
def test_what_is_never_written(pattern, allowed):
    wrong = []
    for path in sources("gateway", "exporters", "include"):
        name = str(path.relative_to(ROOT))
        text = path.read_text() if "TODO" in pattern else code(path)
        wrong += [f"{name}:{text.count(chr(10), 0, m.start()) + 1}: {m.group(0)}"
                  for m in re.finditer(pattern, text) if name not in allowed]
    assert wrong == []


def test_only_the_http_client_knows_curl():
    assert [str(p.relative_to(ROOT)) for p in sources("gateway", "exporters", "include")
            if "<curl/curl.h>" in p.read_text()] == ["exporters/http_client.c"]


def test_every_counter_has_help_and_advice():
    text = (ROOT / "include/cellgate/metrics.def").read_text()
    families = re.findall(r'CG_FAMILY\((\w+),\s*"([^"]+)",\s*(\w+),\s*("(?:[^"\\]|\\.)*"\s*)+,', text)
    assert len(families) > 20
    for name, metric, kind, help_text in families:
        assert len(help_text.strip()) > 10, name
        assert metric.endswith("_total") == (kind == "COUNTER"), metric


def test_the_metrics_reference_is_up_to_date():
    assert (ROOT / "docs/metrics.md").read_text() == metrics_reference.render()


def test_every_header_says_what_it_is_and_is_guarded():
    wrong = []
    for path in sources("gateway", "exporters", "include", suffixes=(".h",)):
        text = path.read_text()
        if not text.startswith(f"/*\n * {path.name} - ") or "#ifndef CELLGATE_" not in text:
            wrong.append(str(path.relative_to(ROOT)))
    assert wrong == []


def test_files_stay_readable():
    long = {str(p.relative_to(ROOT)): n for p in sources("gateway", "exporters", suffixes=(".c",))
            if (n := p.read_text().count("\n")) > 600}
    assert long == {}


def test_the_product_speaks_of_itself_only():
    words = re.compile(r"\.\./shared|/work/|farm-|\bforerunner'?s? crate\b", re.IGNORECASE)
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True,
                             check=True).stdout.split("\n")
    wrong = [name for name in tracked if name and name != "tests/house/test_house.py"
             and not name.startswith(("tests/golden/", "tests/fuzz/corpus/"))
             and words.search((ROOT / name).read_text(errors="replace"))]
    assert wrong == []


def test_the_format_is_clang_formats():
    tool = shutil.which("clang-format-14") or shutil.which("clang-format")
    assert tool is not None
    files = [str(p) for p in sources("gateway", "exporters", "include", suffixes=(".c", ".h"))]
    files += [str(p) for p in sources("tests", suffixes=(".c", ".h"))]
    done = subprocess.run([tool, "--dry-run", "-Werror", *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:4000]


def test_clang_tidy_has_nothing_to_say():
    tool = shutil.which("run-clang-tidy-14") or shutil.which("run-clang-tidy")
    assert tool is not None
    build = pathlib.Path(os.environ["CELLGATE"]).parent
    done = subprocess.run([tool, "-p", str(build), "-quiet", f"-j{os.cpu_count()}",
                           r"^(?!.*/tests/).*/(gateway|exporters)/.*\.c$"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-8000:]
