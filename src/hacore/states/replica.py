"""The replica: rows that the peers own, into the table and, as work, for the kernel."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hacore.states.layout import Rows

Expectations = npt.NDArray[np.void]
"""A one-dimensional array of `EXPECTATION_DTYPE`."""


class Work(NamedTuple):
    """What one frame changes in the kernel. No key comes twice in one of these; the order between them matters.

    Attributes:
        rows: to be put into the kernel.
        new: for each of `rows`, whether the table did not have it (so that the kernel probably has not, either).
        deleted: rows to be taken out of the kernel, as they were.
        expectations, expectations_gone: likewise, for `inject_expectations`; zones are filled in.
        receipt: for `Replica.done`.
    """

    rows: Rows
    new: npt.NDArray[np.bool_]
    deleted: Rows
    expectations: Expectations | None = None
    expectations_gone: Expectations | None = None
    receipt: object = None


class Replica:
    """Of all peers: one queue of work in the order in which the frames came."""

    refused: int  # rows ever, with an older epoch or lost against another owner's
    mismatched: int  # updates ever that met another row than they were made from

    @property
    def pending_rows(self) -> int:
        """Rows in the work that was not taken yet. Stop reading from the connections while it is more than a few milliseconds' worth."""
        raise NotImplementedError

    def work(self, limit: int = 1 << 62) -> list[Work]:
        """Takes work for the kernel: whole frames, until there are `limit` rows."""
        raise NotImplementedError

    def done(self, work: Work, now: float) -> None:
        """It is in the kernel: the origin is told."""
        raise NotImplementedError
