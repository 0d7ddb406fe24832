"""Every exception hacore raises, each with the exit code that a command ends with (sysexits.h where it has one)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class HacoreError(Exception):
    """The root of the tree; `exit_code` is what a command that meets it ends with."""

    exit_code = 1


class WireError(HacoreError):
    """Bytes from the network (or from a file that holds such bytes) that are not what they claim to be.

    `rung` names the check that failed, so that a counter can be kept for each; `offset` is the byte where it failed,
    or -1.
    """

    exit_code = 65

    def __init__(self, rung: str, message: str, offset: int = -1) -> None:
        super().__init__(message)
        self.rung = rung
        self.offset = offset


class LocalProtocolError(HacoreError):
    """A machine was asked for something that its state does not allow: a bug in the caller."""

    exit_code = 70


class PlatformError(HacoreError):
    """The kernel refused something that hacore cannot work without."""

    exit_code = 71


class NotRunning(HacoreError):
    """No node answers where the settings say one should."""

    exit_code = 69


class AlreadyRunning(HacoreError):
    """Another node holds the runtime directory or the network namespace."""

    exit_code = 75


class PrivilegeError(HacoreError):
    """A privilege is missing; the message names it and says how to give it."""

    exit_code = 77


class Problem(NamedTuple):
    """One thing wrong in the settings: the file, the key (dotted, tables by name or index) and what would be right."""

    file: str
    key: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}: {self.key}: {self.message}" if self.key else f"{self.file}: {self.message}"


class SettingsError(HacoreError):
    """The settings cannot be used; `problems` holds every reason found, not only the first."""

    exit_code = 78

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)
