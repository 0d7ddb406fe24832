"""How the results of a run are put into words: numbers with their units, parameters, and the rows of its tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hacore.bench.result import OWN, Figure, Machine, Parameters, Result, Scalar

_SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))
_BYTES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B"))
_COUNTS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_TAIL, _DISTRIBUTION = (90, 99), 10
"""Percentiles, and samples from which they are told."""
_FEW = 10_000
"""Up to here counts are written out."""
_FINEST = 9
_NAMED = 8
"""Missing parts that are named for each reason; the document has all of them."""


def scale_of(unit: str, largest: float) -> tuple[float, str]:
    """What to divide by and what to write after it, for values of `unit` up to `largest`."""
    if unit == "cores":
        return 0.01, "%"
    of, slash, per = unit.partition("/")
    if of == "s":
        factor, written = _step(_SECONDS, largest)
    elif of in ("bytes", "B"):
        factor, written = _step(_BYTES, largest)
    else:
        # Whatever else there is counts something; a count of one thing is not written with a unit.
        factor, letter = _COUNTS[-1] if round(abs(largest)) < _FEW else _step(_COUNTS, largest)
        return factor, f"{letter} {'' if unit == '1' else unit}".strip()
    return (factor, f"{written}{slash}{per}") if largest else (1.0, unit)


def _step(steps: Sequence[tuple[float, str]], largest: float) -> tuple[float, str]:
    """The largest step of which there is one or more, also where only rounding makes it one."""
    return next((step for step in steps if float(f"{abs(largest) / step[0]:.3g}") >= 1), steps[-1])


def digits(value: float) -> str:
    """Three figures, or two below one, and all of those before the point; never an exponent. What is whole has none
    behind it.
    """
    # A division by a factor leaves noise in the last places.
    value = float(f"{value:.12g}")
    if value == int(value):
        return f"{int(value)}"
    return f"{value:.{_places(value)}f}"


def _places(value: float) -> int:
    """How many figures stand behind the point."""
    figures = 3 if float(f"{abs(value):.3g}") >= 1 else 2
    # Of the rounded value, which may have one more before the point.
    exponent = int(f"{value:.{figures - 1}e}".partition("e")[2])
    return min(_FINEST, max(0, figures - 1 - exponent))


def spread(figure: Figure) -> str:
    """Median and worst of its samples with the unit, or the one value there is."""
    middle, worst = figure.median, worst_of(figure)
    factor, unit = scale_of(figure.unit, max(abs(middle), abs(worst)))
    numbers = [digits(middle / factor)]
    if (written := digits(worst / factor)) != numbers[0]:
        numbers.append(written)
    return f"{' / '.join(numbers)} {unit}".strip()


def tail(figure: Figure) -> str:
    """The percentiles of a distribution that has as many samples as they want, one that is better when it is less."""
    if len(figure.samples) < _DISTRIBUTION or figure.better != "less" or figure.median == worst_of(figure):
        return ""
    factor, unit = scale_of(figure.unit, worst_of(figure))
    values = np.percentile(figure.samples, list(_TAIL))
    parts = [f"{percent} %: {digits(float(value) / factor)}" for percent, value in zip(_TAIL, values, strict=True)]
    return f"{', '.join(parts)} {unit}".strip()


def single(value: float, unit: str) -> str:
    """One value with its unit."""
    factor, written = scale_of(unit, value)
    return f"{digits(value / factor)} {written}".strip()


def worst_of(figure: Figure) -> float:
    """Its least welcome sample."""
    return max(figure.samples) if figure.better == "less" else min(figure.samples)


def ratio_text(ratio: float) -> str:
    """How many times as much."""
    if ratio == 0 or ratio >= 9.995:
        return f"{ratio:.0f}x"
    return f"{ratio:.{max(2, _places(ratio))}f}x"


def scalar_text(value: Scalar) -> str:
    """A parameter's value: thousands apart."""
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else f"{value}"


def parameters_text(parameters: Parameters) -> str:
    """All of them in a line, a phase that is called as its scenario left out: `scenario stop, phase return`."""
    if parameters.get("phase", "") == parameters.get("scenario"):
        parameters = {name: value for name, value in parameters.items() if name != "phase"}
    parts = [name if value is True else f"{name} {scalar_text(value)}" for name, value in parameters.items()]
    return ", ".join(parts) or "all"


class Cell(NamedTuple):
    """A figure of one subject; ratio: of its median to hacore's of the same figure, where there is one."""

    figure: Figure
    ratio: float | None


class Block(NamedTuple):
    """Everything measured under one choice of parameters: rows are subjects, columns figures."""

    title: str
    parameters: Parameters
    subjects: list[str]
    names: list[str]
    cells: dict[tuple[str, str], Cell]


def blocks(result: Result) -> list[Block]:
    """The tables of a run, in the order in which it was measured."""
    grouped: dict[tuple[str, tuple[tuple[str, Scalar], ...]], list[Figure]] = {}
    for figure in result.figures:
        if figure.samples:
            grouped.setdefault((_split(figure.name)[0], figure.key[1]), []).append(figure)
    return [_block(topic, figures) for (topic, _), figures in grouped.items()]


def _split(name: str) -> tuple[str, str]:
    """The topic of a figure, which may stand before a colon, and the rest of its name."""
    topic, colon, rest = name.partition(": ")
    return (topic, rest) if colon else ("", name)


def _block(topic: str, figures: Sequence[Figure]) -> Block:
    own = {figure.name: figure for figure in figures if figure.subject == OWN}
    subjects = list(dict.fromkeys(figure.subject for figure in figures))
    subjects.sort(key=lambda subject: subject != OWN)
    cells = {}
    for figure in figures:
        base = own.get(figure.name)
        known = base is not None and base is not figure and base.median != 0
        ratio = figure.median / base.median if base and known else None
        cells[figure.subject, _split(figure.name)[1]] = Cell(figure, ratio)
    names = list(dict.fromkeys(_split(figure.name)[1] for figure in figures))
    title = parameters_text(figures[0].parameters)
    if topic:
        title = f"{topic}: {title}" if figures[0].parameters else topic
    return Block(title, figures[0].parameters, subjects, names, cells)


def missing(result: Result) -> list[str]:
    """What an incomplete run lacks: a line for each reason, with the first parts that it kept from being measured."""
    parts: dict[str, list[str]] = {}
    for each in result.missing:
        parts.setdefault(each.why, []).append(each.part)
    lines = []
    for why, names in parts.items():
        more = f"; and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        lines.append(f"not measured to the end: {'; '.join(names[:_NAMED])}{more} ({why})")
    return lines


def title(result: Result) -> str:
    """The command, and that it did not do everything where it did not."""
    return f"hacore bench {result.command}{', incomplete' if result.missing else ''}"


def _buckets(machine: Machine) -> str:
    return f", {machine.hash_buckets:,} buckets for connections" if machine.hash_buckets else ""


def facts(result: Result) -> list[tuple[str, str]]:
    """Where, with what and how it ran, for the head of a report."""
    machine = result.machine
    # A comma stands in the numbers and between those of a list.
    settings = "; ".join(
        f"{name} {', '.join(map(scalar_text, value)) if isinstance(value, list) else scalar_text(value)}"
        for name, value in result.settings.items()
    )
    found = [
        ("machine", f"{machine.processor}, {machine.cores} cores, {machine.memory_bytes / 1e9:.1f} GB"),
        ("system", f"{machine.distribution}, Linux {machine.kernel}{_buckets(machine)}"),
        ("load", f"{machine.load_before:.2f} before, {machine.load_after:.2f} after"),
        ("versions", ", ".join(f"{name} {number}" for name, number in result.versions.items())),
        ("settings", settings),
        ("took", f"{result.duration:.0f} s"),
    ]
    if result.left_out:
        found.append(("left out", ", ".join(result.left_out)))
    return found
