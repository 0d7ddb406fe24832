"""The charts of the last hour: lines in SVG, drawn here, so that the page needs no script for them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from hacore.web.hour import SPAN, Slot
from hacore.web.wording import duration, lag, number

WIDTH, HEIGHT = 400, 132
LEFT, RIGHT, TOP, BOTTOM = 46, 4, 8, 20
#: Seconds that one point of a line stands for: it is the highest of them.
STEP = 15.0


class Tick(NamedTuple):
    """A horizontal line and what it stands for."""

    at: float
    text: str


class Mark(NamedTuple):
    """A moment on the lower edge."""

    at: float
    text: str
    anchor: str


class Line(NamedTuple):
    """One node's, as SVG's path; `number` is its place among the nodes."""

    number: int
    path: str


class Key(NamedTuple):
    """Which line is whose."""

    number: int
    name: str


class Chart(NamedTuple):
    """What the template draws. `told` says it in words."""

    title: str
    keys: list[Key]
    lines: list[Line]
    ticks: list[Tick]
    marks: list[Mark]
    peak: str
    told: str
    span: str
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT


class Measure(NamedTuple):
    """What is drawn: a slot's figure, and how it is written."""

    title: str
    value: Callable[[Slot], float]
    write: Callable[[float], str]
    least: float


MEASURES = (
    Measure("Rows", lambda slot: slot.rows, number, 10),
    Measure("Changes a second", lambda slot: slot.rate, number, 10),
    Measure("Lag", lambda slot: slot.lag, lag, 0.01),
)


def draw(measure: Measure, nodes: Sequence[tuple[str, Sequence[Slot]]], now: float) -> Chart:
    """Each node's name and slots; a gap of more than two steps interrupts its line."""
    end = math.ceil(now / STEP) * STEP
    series = [(name, _points(measure, slots, end)) for name, slots in nodes]
    peak = max((value for _name, points in series for _at, value in points), default=0.0)
    first = min((points[0][0] for _name, points in series if points), default=now)
    top = _round_up(max(peak, measure.least))
    span = HEIGHT - TOP - BOTTOM

    def y(value: float) -> float:
        return round(TOP + span * (1 - value / top), 1)

    told = "; ".join(
        f"{name} now {measure.write(points[-1][1])}" if points else f"{name} unknown" for name, points in series
    )
    return Chart(
        title=measure.title,
        keys=[Key(place, name) for place, (name, _points) in enumerate(series)],
        lines=[Line(place, _path(points, end, y)) for place, (_name, points) in enumerate(series)],
        ticks=[Tick(y(part * top), measure.write(part * top)) for part in (0.0, 0.5, 1.0)],
        marks=[Mark(LEFT, "1 h ago", "start"), Mark(_x(end - 1800, end), "30 m", "middle"), Mark(WIDTH, "now", "end")],
        peak=measure.write(peak),
        told=f"{told}; peak {measure.write(peak)}",
        span=f"{duration(now - first)}, " if now - first < SPAN - 60 else "",
    )


def _points(measure: Measure, slots: Sequence[Slot], end: float) -> list[tuple[float, float]]:
    highest: dict[float, float] = {}
    for slot in slots:
        at = slot.at // STEP * STEP
        if at >= end - SPAN:
            highest[at] = max(highest.get(at, 0.0), measure.value(slot))
    return sorted(highest.items())


def _x(at: float, end: float) -> float:
    return round(LEFT + (WIDTH - LEFT - RIGHT) * (1 - (end - at) / SPAN), 1)


def _path(points: list[tuple[float, float]], end: float, y: Callable[[float], float]) -> str:
    parts: list[str] = []
    last = -math.inf
    for at, value in points:
        x = _x(at + STEP, end)
        if at - last > 2 * STEP:
            parts.append(f"M{_x(at, end):g} {y(value):g}")
        parts.append(f"L{x:g} {y(value):g}")
        last = at
    return "".join(parts)


def _round_up(value: float) -> float:
    """1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if value <= step * power * 1.0000001)
