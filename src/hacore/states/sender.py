"""The origin's end of a connection: a cursor into the log, a bulk update or a repair when the log does not reach."""

from __future__ import annotations

from hacore.states.session import Session


class SenderSession(Session):
    """Made by `Replication.dial`."""

    role = "origin"

    def order_bulk(self, reason: str, now: float) -> None:
        """A bulk update from the start, whatever the replica has."""
        raise NotImplementedError

    def order_digests(self, now: float) -> None:
        """A comparison of digests as soon as the cursor is at the log's end."""
        raise NotImplementedError
