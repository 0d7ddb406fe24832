"""A run from its beginning to its document, which is made of what there is however the run ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from hacore.bench import machine
from hacore.bench.result import Missing, Result, Scalar, Series
from hacore.bench.samples import Samples
from hacore.errors import HacoreError
from hacore.linux import termination

Told = Callable[[str], None]
"""Is told what is measured now."""


class Part(NamedTuple):
    """A part of a run that needs nothing of the others; `measure` tells what it is at."""

    name: str
    measure: Callable[[Told], None]


class PartsFailed(HacoreError):
    """Parts of a run could not be measured; the exit code is that of the first one's error."""

    def __init__(self, errors: Sequence[HacoreError], parts: int) -> None:
        count = len(errors)
        more = f", and {count - 1} more for the reasons above" if count > 1 else ""
        super().__init__(f"the result is incomplete: {count} of {parts} parts failed: {errors[0]}{more}")
        self.exit_code = errors[0].exit_code


class Interrupted(HacoreError):
    """A signal ended the run: 128 and its number, as a shell says it of a command that died of it."""

    exit_code = 130

    def __init__(self, error: KeyboardInterrupt, *, measured: bool, missing: bool) -> None:
        number = termination.signal_of(error)
        left = f"the result is {'incomplete' if missing else 'complete'}"
        if not measured:
            left = "nothing was measured, nothing is written"
        super().__init__(f"{number.name}: {left}")
        self.exit_code = 128 + number


class Running:
    """A run that has begun now; samples are taken `into`, and what a reader has to know is added to `notes`.

    MissingProgram where one of `programs` is not installed.
    """

    def __init__(self, command: str, programs: Iterable[str], into: Samples) -> None:
        self.into = into
        self.notes: list[str] = []
        self._command = command
        self._versions = machine.versions(programs)
        self._machine = machine.machine()
        self._started, self._began = time.time(), time.monotonic()
        self._now = ""
        self._missing: list[Missing] = []
        self._failures: list[HacoreError] = []
        self._interruption: KeyboardInterrupt | None = None
        self._parts = 0

    @property
    def measured(self) -> bool:
        """Whether there is anything to show."""
        return bool(self.into.figures())

    def carry_out(self, parts: Sequence[Part], tell: Told) -> None:
        """Measures one part after the other.

        A part that fails with a HacoreError is missing, and the next ones are measured nevertheless, unless nothing has
        been measured yet: then, and at anything else, the rest is missing too, and the exception goes on.
        """

        def say(text: str) -> None:
            self._now = text
            tell(text)

        over = 0
        self._parts = len(parts)
        try:
            for part in parts:
                say(part.name)
                self._carry_out(part, say)
                over += 1
        except BaseException as error:
            self._end(parts[over:], error)
            raise

    def _carry_out(self, part: Part, say: Told) -> None:
        try:
            part.measure(say)
        except HacoreError as error:
            if not self.measured:
                raise
            self._failures.append(error)
            self._missing.append(Missing(part=part.name, why=str(error)))

    def lack(self, part: str, why: str) -> None:
        """A part was not measured to its end, which is no failure of the run."""
        self._missing.append(Missing(part=part, why=why))

    def _end(self, rest: Sequence[Part], error: BaseException) -> None:
        """The first of `rest` ended with `error`, and the others were not begun."""
        if isinstance(error, KeyboardInterrupt):
            self._interruption = error
            why = f"the run was ended by {termination.signal_of(error).name}"
        else:
            why = f"the run ended with {type(error).__name__}: {error}"
        for part in rest[:1]:
            at = f" at: {self._now}" if self._now != part.name else ""
            self._missing.append(Missing(part=part.name, why=f"{why}{at}"))
        self._missing += [Missing(part=part.name, why=f"{why} before") for part in rest[1:]]

    def failure(self, error: BaseException | None) -> BaseException | None:
        """What a command that ended with `error` is to raise: a signal counts for more than what its end led to."""
        interruption = self._interruption or error
        if isinstance(interruption, KeyboardInterrupt):
            return Interrupted(interruption, measured=self.measured, missing=bool(self._missing))
        if error is None and self._failures:
            return PartsFailed(self._failures, self._parts)
        return error

    def result(
        self,
        *,
        settings: Mapping[str, Scalar | list[Scalar]],
        left_out: Sequence[str] = (),
        series: Sequence[Series] = (),
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
            figures=self.into.figures(),
            series=list(series),
            notes=list(self.notes),
            missing=list(self._missing),
        )
