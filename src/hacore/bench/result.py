"""A run of `hacore bench` as one document: everything that is shown of it, or compared, is made from it.

A figure is one quantity of one subject under given parameters, with every sample that was taken of it. The samples of
hacore and of its baselines were taken by turns, so that their ratio says more than either of them.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Literal

import msgspec

from hacore.errors import HacoreError

FORMAT = 1
OWN = "hacore"
LIMIT = "bare injector"
"""What stands for the machine itself."""

Scalar = int | float | str | bool
Parameters = dict[str, Scalar]


class UnknownFormat(HacoreError):
    """A file that is no result of `hacore bench`, or one of another format."""

    exit_code = 65


class OtherCommand(HacoreError):
    """Two results that have nothing to compare."""

    exit_code = 65


class Unreadable(HacoreError):
    """A file that is not there, or that this user may not read."""

    exit_code = 66


class Figure(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One quantity: `name` and `parameters` say which, `subject` whose. Seconds have the unit "s"."""

    name: str
    unit: str
    better: Literal["less", "more"]
    subject: str
    parameters: Parameters = {}
    samples: list[float]

    @property
    def median(self) -> float:
        """Of the samples."""
        return statistics.median(self.samples)

    @property
    def key(self) -> tuple[str, tuple[tuple[str, Scalar], ...]]:
        """What figures of different subjects, and of different runs, are compared by."""
        return self.name, tuple(sorted(self.parameters.items()))


class Series(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Points of a plot: `y` over `x`, both of one length."""

    name: str
    subject: str
    parameters: Parameters = {}
    x_name: str
    x_unit: str
    unit: str
    x: list[float]
    y: list[float]


class Machine(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Where it ran. hash_buckets: of the kernel's connection table before the run, which raises them for its time; 0
    where there is none. Loads are those of the last minute, of all processes of the machine.
    """

    processor: str
    cores: int
    memory_bytes: int
    kernel: str
    distribution: str
    hash_buckets: int = 0
    load_before: float
    load_after: float


class Missing(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """A part of a run that was not measured, or not to its end, and why."""

    part: str
    why: str


class Result(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A run. `command`: "sync", "failover" or "scale"; `settings`: its options; `notes`: what a reader has to know."""

    format: int = FORMAT
    command: str
    started: float
    """Unix time."""
    duration: float
    machine: Machine
    versions: dict[str, str]
    """By program; "hacore", with the "commit" of its checkout, what it is built on, and every peer that took part."""
    settings: dict[str, Scalar | list[Scalar]]
    left_out: list[str] = []
    """Subjects that were not to take part."""
    figures: list[Figure]
    series: list[Series] = []
    notes: list[str] = []
    missing: list[Missing] = []
    """Empty where the run is complete. Samples that parts of these had taken before they ended are among the others."""


def encode(result: Result) -> bytes:
    """The document, indented."""
    return msgspec.json.format(msgspec.json.encode(result)) + b"\n"


def decode(octets: bytes, name: str) -> Result:
    """The run that a document holds; `name` is what messages call it.

    Raises:
        UnknownFormat: it is none, or of another format.
    """
    try:
        found = msgspec.json.decode(octets, type=Result)
    except msgspec.DecodeError as error:
        raise UnknownFormat(f"{name} holds no result of hacore bench: {error}") from error
    if found.format != FORMAT:
        raise UnknownFormat(f"{name} is of format {found.format}, this is hacore bench of format {FORMAT}")
    return found


def load(path: Path) -> Result:
    """The run in a file. UnknownFormat where it holds none; Unreadable where it cannot be read."""
    try:
        octets = path.read_bytes()
    except OSError as error:
        raise Unreadable(f"{path}: {error.strerror}") from error
    return decode(octets, str(path))
