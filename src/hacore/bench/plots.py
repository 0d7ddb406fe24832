"""Plots as SVG: strips of samples, and lines. Colours are those of the page's style sheet, so that a plot is light or
dark as its page is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np

from hacore.bench import words

WIDTH = 640
_LEFT, _RIGHT, _TOP, _BOTTOM = 156, 20, 8, 44
_LANE = 30
_HEIGHT = 260
_STEEP = 30.0
"""Values whose largest is so many times their smallest stand on a logarithmic scale."""
COLOURS = 7


class Line(NamedTuple):
    """A course of one subject. colour: its number among the page's."""

    subject: str
    colour: int
    x: Sequence[float]
    y: Sequence[float]


class Strip(NamedTuple):
    """The samples of one subject."""

    subject: str
    colour: int
    samples: Sequence[float]


class _Axis:
    """From values to places between `start` and `end`."""

    def __init__(
        self, values: Sequence[float], unit: str, start: float, end: float, *, zero: bool, even: bool = False
    ) -> None:
        low, high = min(values), max(values)
        self.logarithmic = low > 0 and high / low > _STEEP and not even
        self.start, self.end = start, end
        if self.logarithmic:
            self.low, self.high = math.log10(low), math.log10(high)
            margin = 0.04 * (self.high - self.low)
            self.low, self.high = self.low - margin, self.high + margin
        else:
            self.low = min(0.0, low) if zero else low
            self.high = high + 0.05 * (high - self.low) if high > self.low else self.low + 1
        self.factor, self.unit = words.scale_of(unit, high)

    def at(self, value: float) -> float:
        """Where `value` is."""
        value = math.log10(value) if self.logarithmic else value
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> list[tuple[float, str]]:
        """Places and their words."""
        found = [value for value in self._steps() if self.low - 1e-9 <= self._scaled(value) <= self.high + 1e-9]
        return [(self.at(value), f"{value / self.factor:.10g}") for value in found]

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self.logarithmic else value

    def _steps(self) -> list[float]:
        if self.logarithmic:
            decades = range(math.floor(self.low), math.ceil(self.high) + 1)
            between = (1, 2, 5) if self.high - self.low < 2 else (1, 3) if self.high - self.low < 3 else (1,)
            return [step * 10.0**decade for decade in decades for step in between]
        rough = (self.high - self.low) / 5 / self.factor
        size = 10 ** math.floor(math.log10(rough))
        step = next(size * times for times in (1, 2, 5, 10) if size * times >= rough) * self.factor
        return [step * number for number in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]


def _svg(height: float, label: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(label)}">' + "".join(parts) + "</svg>"
    )


def _below(axis: _Axis, top: float, bottom: float, name: str) -> list[str]:
    parts = []
    for at, text in axis.ticks():
        parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{top}" y2="{bottom}"/>')
        parts.append(f'<text class="tick" x="{at:.1f}" y="{bottom + 17}" text-anchor="middle">{text}</text>')
    said = f"{name}, {axis.unit}" if axis.unit else name
    said += " (logarithmic)" if axis.logarithmic else ""
    middle = (axis.start + axis.end) / 2
    return [*parts, f'<text class="name" x="{middle:.0f}" y="{bottom + 36}" text-anchor="middle">{escape(said)}</text>']


def strips(name: str, unit: str, rows: Sequence[Strip]) -> str:
    """Every sample of each subject as a dot in its lane, and the median as a bar."""
    bottom = _TOP + _LANE * len(rows)
    axis = _Axis([value for row in rows for value in row.samples], unit, _LEFT, WIDTH - _RIGHT, zero=True)
    parts = _below(axis, _TOP, bottom, name)
    for number, row in enumerate(rows):
        middle = _TOP + _LANE * (number + 0.5)
        parts.append(
            f'<text class="lane" x="{_LEFT - 10}" y="{middle + 4}" text-anchor="end">{escape(row.subject)}</text>'
        )
        for index, value in enumerate(row.samples):
            # Apart by a fixed pattern, so that equal samples can be counted.
            away = ((index * 7) % 11 - 5) * 1.5
            at = axis.at(value)
            parts.append(
                f'<circle class="c{row.colour % COLOURS} dot" cx="{at:.1f}" cy="{middle + away:.1f}" r="3.2">'
                f"<title>{escape(row.subject)}: {words.single(value, unit)}</title></circle>"
            )
        at = axis.at(float(np.median(row.samples)))
        parts.append(
            f'<line class="c{row.colour % COLOURS} bar" x1="{at:.1f}" x2="{at:.1f}" '
            f'y1="{middle - 12:.1f}" y2="{middle + 12:.1f}"/>'
        )
    return _svg(bottom + _BOTTOM, f"{name}: samples of {', '.join(row.subject for row in rows)}", parts)


def lines(name: str, unit: str, x_name: str, x_unit: str, rows: Sequence[Line], *, dots: bool) -> str:
    """Courses over a common axis, with a legend below."""
    bottom = _TOP + _HEIGHT
    left = 64
    places_across = [value for row in rows for value in row.x]
    across = _Axis(places_across, x_unit, left, WIDTH - _RIGHT, zero=False, even=x_name == "time")
    upward = _Axis([value for row in rows for value in row.y], unit, bottom, _TOP + 20, zero=True)
    parts = _below(across, _TOP, bottom, x_name)
    for at, text in upward.ticks():
        parts.append(f'<line class="grid" x1="{left}" x2="{WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text class="tick" x="{left - 7}" y="{at + 4:.1f}" text-anchor="end">{text}</text>')
    said = f"{name}, {upward.unit}" if upward.unit else name
    said += " (logarithmic)" if upward.logarithmic else ""
    parts.append(f'<text class="name" x="{left}" y="{_TOP + 8}">{escape(said)}</text>')
    for row in rows:
        places = [(across.at(x), upward.at(y)) for x, y in zip(row.x, row.y, strict=True)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline class="c{row.colour % COLOURS} course" points="{path}"/>')
        if dots:
            for (x, y), value in zip(places, row.y, strict=True):
                parts.append(
                    f'<circle class="c{row.colour % COLOURS} dot" cx="{x:.1f}" cy="{y:.1f}" r="3.5">'
                    f"<title>{escape(row.subject)}: {words.single(value, unit)}</title></circle>"
                )
    height = bottom + _BOTTOM
    at_x, at_y = float(left), height + 14
    for row in rows:
        width = 28 + 8.4 * len(row.subject)
        if at_x + width > WIDTH - _RIGHT:
            at_x, at_y = float(left), at_y + 20
        parts.append(
            f'<line class="c{row.colour % COLOURS} bar" x1="{at_x}" x2="{at_x + 14}" y1="{at_y - 4}" y2="{at_y - 4}"/>'
        )
        parts.append(f'<text class="lane" x="{at_x + 19}" y="{at_y}">{escape(row.subject)}</text>')
        at_x += width + 10
    return _svg(at_y + 10, f"{name} over {x_name}", parts)
