"""What Prometheus reads while the gateway is busy: always whole, and counters only go up."""

import re
import threading

from support.flows import Load, caught_up, to_file, to_sink
from support.gateway import Gateway
from support.http_sink import HttpSink

CELLS = 4
FRAMES = 5000
SCRAPERS = 4
SAMPLE = re.compile(
    r'(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)'
    r'(?P<labels>\{(?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\n"])*",?)*\})? '
    r"(?P<value>[-+]?(?:\d+(?:\.\d+)?(?:e[-+]?\d+)?|Inf|NaN))"
)


def family_of(name, types):
    for suffix in ("_bucket", "_sum", "_count"):
        base = name.removesuffix(suffix)
        if base != name and types.get(base) == "histogram":
            return base
    return name


def parse(text):
    """(types by family, values by series) of the text format 0.0.4; refuses everything else."""
    assert text.endswith("\n")
    types, values, current = {}, {}, None
    for line in text.splitlines():
        if line.startswith("# HELP "):
            continue
        if line.startswith("# TYPE "):
            _, _, current, kind = line.split(" ")
            assert current not in types and kind in ("counter", "gauge", "histogram"), line
            types[current] = kind
            continue
        sample = SAMPLE.fullmatch(line)
        assert sample, line
        assert family_of(sample["name"], types) == current, f"{line} is not below its family"
        series = sample["name"] + (sample["labels"] or "")
        assert series not in values, line
        values[series] = float(sample["value"])
    return types, values


def assert_histograms_add_up(types, values):
    for family in (name for name, kind in types.items() if kind == "histogram"):
        rows = {}
        for series, value in values.items():
            if series.startswith(family + "_bucket{"):
                rows.setdefault(re.sub(r',?le="[^"]*"', "", series), []).append(value)
        for series, counts in rows.items():
            assert counts == sorted(counts), series
            labels = series.removeprefix(family + "_bucket").replace("{}", "")
            assert values[f"{family}_count{labels}"] == counts[-1], series


class Scraper(threading.Thread):
    def __init__(self, gateway, busy):
        super().__init__(daemon=True)
        self.gateway, self.busy = gateway, busy
        self.scrapes, self.failure = 0, None

    def run(self):
        try:
            before = {}
            while self.busy.is_set():
                before = self.scrape(before)
        except BaseException as failure:  # shown by the test, not by the thread
            self.failure = failure

    def scrape(self, before):
        status, text = self.gateway.get("/metrics")
        assert status == 200
        types, values = parse(text)
        assert_histograms_add_up(types, values)
        for series, value in values.items():
            kind = types[family_of(series.partition("{")[0], types)]
            if kind != "gauge":
                assert value >= before.get(series, 0), f"{series} went down"
        self.scrapes += 1
        return values


def test_every_scrape_under_load_parses(tmp_path):
    busy = threading.Event()
    busy.set()
    with HttpSink() as sink:
        exporters = [to_sink("central", sink.url), to_file("local", tmp_path / "events.jsonl")]
        config = {"spool": {"dir": str(tmp_path / "spool")}}
        with Gateway(tmp_path, exporters=exporters, cells=CELLS, config=config) as gateway:
            scrapers = [Scraper(gateway, busy) for _ in range(SCRAPERS)]
            for scraper in scrapers:
                scraper.start()
            arguments = ["--cells", CELLS, "--connections", 2, "--frames", FRAMES, "--rate", 20_000]
            with Load(gateway.base("%d"), *arguments) as load:
                status, _ = load.end()
                assert status == 0
            caught_up(gateway, "central")
            busy.clear()
            for scraper in scrapers:
                scraper.join()
                if scraper.failure:
                    raise scraper.failure
                assert scraper.scrapes >= 2
            _, values = parse(gateway.get("/metrics")[1])
            assert values["cellgate_frames_received_total"] == CELLS * 2 * FRAMES
            assert gateway.stop() == 0
