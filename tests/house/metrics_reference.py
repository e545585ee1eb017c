"""Writes docs/metrics.md from include/cellgate/metrics.def: python3 tests/house/metrics_reference.py > docs/metrics.md"""
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]
TEXT = r'((?:"(?:[^"\\]|\\.)*"\s*)*)'


def unquote(literals):
    return "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', literals)).replace('\\"', '"')


def render():
    source = (ROOT / "include/cellgate/metrics.def").read_text()
    source = source[source.index("*/"):]
    labels = {}
    for family, series in re.findall(r'CG_SERIES\(\w+,\s*(\w+),\s*("(?:[^"\\]|\\.)*")\)', source):
        if unquote(series):
            labels.setdefault(family, []).append(unquote(series))
    lines = ["# Metrics", "",
             "What `/metrics` shows, and what each means for an operator. Written from",
             "`include/cellgate/metrics.def`.", "",
             "| metric | type | what it is | what to do about it |", "|---|---|---|---|"]
    for name, metric, kind, help_text, advice in re.findall(
            rf'CG_FAMILY\((\w+),\s*"(\w+)",\s*(\w+),\s*{TEXT},\s*{TEXT}\)', source):
        series = "; ".join(f"`{label}`" for label in labels.get(name, []))
        what = unquote(help_text) + (f" Series: {series}." if series else "")
        lines.append(f"| `cellgate_{metric}` | {kind.lower()} | {what} | {unquote(advice)} |")
    lines += ["", "Beside these there is the usual `process_*` set."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(render(), end="")
