"""What a run of `hacore bench sync` has found so far."""

from __future__ import annotations

from hacore.bench.result import Series
from hacore.bench.samples import Samples


class Record(Samples):
    """Figures as they come, one sample after the other, and series for the plots."""

    def __init__(self) -> None:
        super().__init__()
        self.series: list[Series] = []

    def less(self, name: str, unit: str, subject: str, value: float, **parameters: float | str) -> None:
        """A sample of what is better when there is less of it."""
        self.add(name, unit, "less", subject, dict(parameters), value)

    def more(self, name: str, unit: str, subject: str, value: float, **parameters: float | str) -> None:
        """A sample of what is better when there is more of it."""
        self.add(name, unit, "more", subject, dict(parameters), value)

    def has_series(self, name: str, subject: str, **parameters: float | str) -> bool:
        """Whether there is such a series already; a plot has one of each."""
        return any((one.name, one.subject, one.parameters) == (name, subject, parameters) for one in self.series)
