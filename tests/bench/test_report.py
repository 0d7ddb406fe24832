"""A run as tables and as a page."""

from __future__ import annotations

import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner

from hacore.bench import machine, page, plots, result, terminal, words
from hacore.cli.group import main
from tests.bench.made_up import figure, series
from tests.bench.made_up import result as made_up

VOID = {"meta", "br"}


class Tags(HTMLParser):
    """Fails where a tag is closed that is not open; keeps what could be fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href", "action", "xlink:href")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def run() -> result.Result:
    return made_up(
        figure([0.02, 0.03, 0.025], parameters={"scenario": "crash", "vhids": 1}),
        figure([0.2, 0.3, 0.25], parameters={"scenario": "crash", "vhids": 100}),
        figure([0.04, 0.06, 0.05], subject="keepalived <1>", parameters={"scenario": "crash", "vhids": 1}),
        figure([4.0, 6.0, 5.0], subject="keepalived <1>", parameters={"scenario": "crash", "vhids": 100}),
        figure([0.0, 0.0, 0.0], name="lost", unit="1", parameters={"scenario": "crash", "vhids": 1}),
        figure([7.0, 8.0, 9.0], name="lost", unit="1", subject="ucarp", parameters={"scenario": "crash", "vhids": 1}),
        series=[series("hacore"), series("ucarp")],
        notes=["something <b>odd</b>"],
        left_out=["conntrackd"],
    )


def test_the_page_needs_nothing_else_and_is_well_formed(run: result.Result) -> None:
    text = page.page(run)
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    assert tags.fetched == []
    assert not re.search(r"url\(|@import|https?:", text)
    assert "<b>odd" not in text
    assert "keepalived &lt;1&gt;" in text
    # medians over vhids, the series, and a strip for each table of three samples
    assert tags.seen.count("svg") == 1 + 1 + 3
    for drawing in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ET.fromstring(drawing)


def test_ratios_are_to_hacore_of_the_same_run(run: result.Result) -> None:
    block = words.blocks(run)[0]
    assert block.title == "scenario crash, vhids 1"
    assert block.subjects == ["hacore", "keepalived <1>", "ucarp"]
    assert block.cells["keepalived <1>", "takeover"].ratio == pytest.approx(2.0)
    assert block.cells["hacore", "takeover"].ratio is None
    assert block.cells["ucarp", "lost"].ratio is None  # hacore lost nothing


def test_every_sample_is_in_its_plot_and_inside_it() -> None:
    samples = [0.001 * 1.7**number for number in range(12)]
    drawing = plots.strips("gap", "s", [plots.Strip("hacore", 0, samples), plots.Strip("other", 1, [0.5, 0.0])])
    places = [(float(x), float(y)) for x, y in re.findall(r'cx="([-\d.]+)" cy="([-\d.]+)"', drawing)]
    assert len(places) == len(samples) + 2
    assert all(0 <= x <= plots.WIDTH and y >= 0 for x, y in places)


@pytest.mark.parametrize("values", [[0.0], [0.0, 0.0], [5.0], [1e-9, 1e9], [3.0, 3.0], [-1.0, 1.0]])
def test_a_plot_of_odd_values(values: list[float]) -> None:
    row = plots.Line("hacore", 0, list(range(len(values))), values)
    ET.fromstring(plots.lines("y", "1", "x", "1", [row], dots=True))
    ET.fromstring(plots.strips("y", "bytes", [plots.Strip("hacore", 0, values)]))


@pytest.mark.parametrize(
    ("samples", "unit", "expected"),
    [
        ([0.0234], "s", "23.4 ms"),
        ([0.02, 0.03, 0.025], "s", "25 / 30 ms"),
        ([1.5e-6], "s", "1.50 us"),
        ([0.0], "s", "0 s"),
        ([153e6], "bytes", "153 MB"),
        ([0.0047], "cores", "0.47 %"),
        ([0.0, 2.0, 0.0], "1", "0 / 2"),
        ([216000.0], "states/s", "216 k states/s"),
        ([4.9], "bytes/state", "4.90 B/state"),
    ],
)
def test_numbers_with_their_units(samples: list[float], unit: str, expected: str) -> None:
    assert words.spread(figure(samples, unit=unit)) == expected


def test_the_command_shows_and_writes_a_report(run: result.Result, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes(result.encode(run))
    done = CliRunner().invoke(
        main,
        ["bench", "report", str(tmp_path / "run.json"), "--html", str(tmp_path / "run.html")],
        env={"COLUMNS": "90"},
    )
    assert done.exit_code == 0, done.output
    for part in ("Thing 3000", "25 / 30 ms", "2.00x", "something <b>odd</b>", "left out  conntrackd"):
        assert part in done.output
    assert (tmp_path / "run.html").read_text(encoding="utf-8") == page.page(run)


def test_percentiles_stand_in_the_table_and_on_the_page() -> None:
    found = made_up(figure([0.001 * number for number in range(1, 101)]))
    assert "90 %: 90.1, 99 %: 99.0 ms" in page.page(found)
    (block,) = words.blocks(found)
    assert "99 %: 99.0 ms" in terminal._cell(block.cells["hacore", "takeover"]).plain


def test_a_run_from_a_checkout_names_its_commit(tmp_path: Path) -> None:
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    assert machine.commit(tmp_path) == ""
    subprocess.run([*git, "init", "--quiet"], check=True)
    (tmp_path / "file").write_text("one")
    subprocess.run([*git, "add", "file"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--message", "one"], check=True)
    clean = machine.commit(tmp_path)
    assert re.fullmatch("[0-9a-f]{12}", clean)
    (tmp_path / "file").write_text("two")
    assert machine.commit(tmp_path) == f"{clean}+"
    (tmp_path / "installed").mkdir()
    assert machine.commit(tmp_path / "installed") == ""  # an environment that lies in somebody's checkout
