"""A run from its beginning to its document."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from hacore.bench import machine
from hacore.bench.result import Result, Scalar, Series
from hacore.bench.samples import Samples


class Running:
    """A run that has begun now. MissingProgram where one of `programs` is not installed."""

    def __init__(self, command: str, programs: Iterable[str]) -> None:
        self._command = command
        self._versions = machine.versions(programs)
        self._machine = machine.machine()
        self._started, self._began = time.time(), time.monotonic()

    def result(
        self,
        into: Samples,
        *,
        settings: Mapping[str, Scalar | list[Scalar]],
        left_out: Sequence[str] = (),
        series: Sequence[Series] = (),
        notes: Sequence[str] = (),
    ) -> Result:
        """The document of the run, which ends now."""
        return Result(
            command=self._command,
            started=self._started,
            duration=time.monotonic() - self._began,
            machine=msgspec.structs.replace(self._machine, load_after=machine.machine().load_before),
            versions=self._versions,
            settings=dict(settings),
            left_out=list(left_out),
            figures=into.figures(),
            series=list(series),
            notes=list(notes),
        )
