"""Runs and comparisons as tables on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from hacore.bench import words
from hacore.bench.compare import FEWEST, Change
from hacore.bench.result import Result

_STYLES = {"regression": "bold red", "vanished": "bold red", "drift": "dim", "worse": "yellow", "better": "green"}


def _plain(title: str = "") -> Table:
    return Table(title=title or None, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)


def report(result: Result) -> Group:
    """A table for each choice of parameters, with the ratio to hacore's median below each other subject's figure."""
    head = [Text(f"{name:>9}  {value}", overflow="fold") for name, value in words.facts(result)]
    notes = [Text(f"note: {note}", style="yellow") for note in result.notes]
    legend = Text("median / worst; below: how many times hacore's median", style="dim")
    lacks = [Text(line, style="bold red") for line in words.missing(result)]
    return Group(Text(words.title(result), style="bold"), *lacks, *head, *_tables(result), legend, *notes)


def _tables(result: Result) -> Iterator[Table]:
    for block in words.blocks(result):
        shown = _plain(block.title)
        shown.add_column("", no_wrap=True)
        for name in block.names:
            shown.add_column(name, justify="right")
        for subject in block.subjects:
            cells = [block.cells.get((subject, name)) for name in block.names]
            shown.add_row(subject, *(_cell(cell) for cell in cells))
        yield shown


def _cell(cell: words.Cell | None) -> Text:
    if cell is None:
        return Text("")
    text = Text(words.spread(cell.figure))
    if tail := words.tail(cell.figure):
        text.append(f"\n{tail}", style="dim")
    if cell.ratio is not None:
        text.append(f"\n{words.ratio_text(cell.ratio)}", style="dim")
    return text


def comparison(changes: Sequence[Change], seen: Iterable[Change], bound: float) -> Group:
    """A row for each change in `seen`, the regressions marked; of all how many did not change, or cannot be told."""
    shown = _plain()
    for heading in ("figure", "subject", "parameters"):
        shown.add_column(heading)
    for heading in ("before", "after"):
        shown.add_column(heading, justify="right")
    shown.add_column("beside")
    for heading in ("ratio", "95 %", "chance"):
        shown.add_column(heading, justify="right")
    shown.add_column("")
    count = 0
    for change in seen:
        count += 1
        shown.add_row(
            change.name,
            change.subject,
            words.parameters_text(change.parameters),
            _median(change.before, change.before_ratio, change.unit),
            _median(change.after, change.after_ratio, change.unit),
            change.beside,
            "" if change.ratio is None else words.ratio_text(change.ratio),
            "" if change.interval is None else " to ".join(f"{end:.2f}" for end in change.interval),
            f"{change.chance:.3f}",
            Text(change.verdict, style=_STYLES.get(change.verdict, "")),
        )
    verdicts = [change.verdict for change in changes]
    said = f"bound {bound:.0%}; not beyond the noise: {verdicts.count('same')}"
    if few := verdicts.count("too few samples"):
        said += f"; fewer than {FEWEST} samples, of which nothing can be said: {few}"
    return Group(*([shown] if count else []), Text(said, style="dim"))


def _median(value: float | None, ratio: float | None, unit: str) -> str:
    """With how many times the baseline's it is, where there is one."""
    if value is None:
        return ""
    text = words.single(value, unit)
    return text if ratio is None else f"{text}\n{words.ratio_text(ratio)}"
