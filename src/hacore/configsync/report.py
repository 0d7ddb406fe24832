"""What a node says of a transaction while it runs, and at its end."""

from __future__ import annotations

from typing import Literal

import msgspec

from hacore.errors import HacoreError

Result = Literal["applied", "unchanged", "checked", "refused", "undone", "broken"]


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a running transaction; `total` is 0 where nothing is counted."""

    step: str
    text: str
    done: int = 0
    total: int = 0


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why a transaction failed: at which step, which command (if any) and what that wrote."""

    step: str
    code: str
    message: str
    command: list[str] = []
    output: str = ""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a transaction ended.

    `result`: "applied"; "unchanged" (nothing was to be done); "checked" (a dry run); "refused" (nothing was touched);
    "undone" (the previous revision is back; `undo` has what of it could not be applied again); "broken" (its files
    could not be put back: `undo` says why).
    `sections`: digests of what stands there now. `services`: what became of each.
    """

    result: Result
    node: str
    transaction: str = ""
    revision: int | None = None
    sections: dict[str, str] = {}
    services: dict[str, str] = {}
    failure: Failure | None = None
    undo: list[str] = []
    notes: list[str] = []


class StepFailed(HacoreError):
    """A step that did not succeed."""

    exit_code = 65

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure
