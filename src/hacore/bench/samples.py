"""Samples as they come in, grouped into figures."""

from __future__ import annotations

from typing import Literal

from hacore.bench.result import Figure, Parameters

Better = Literal["less", "more"]


class Samples:
    """Figures in the order of their first sample."""

    def __init__(self) -> None:
        self._figures: dict[object, Figure] = {}

    def add(self, name: str, unit: str, better: Better, subject: str, parameters: Parameters, value: float) -> None:
        """One more sample."""
        figure = Figure(name=name, unit=unit, better=better, subject=subject, parameters=parameters, samples=[])
        self._figures.setdefault((figure.key, subject), figure).samples.append(float(value))

    def figures(self) -> list[Figure]:
        """Everything so far."""
        return list(self._figures.values())
