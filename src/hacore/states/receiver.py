"""The replica's end of a connection: frames in order, into the table, answers."""

from __future__ import annotations

from hacore.states.session import Session


class ReceiverSession(Session):
    """Made by `Replication.accept`."""

    role = "replica"

    def request_bulk(self, now: float) -> None:
        """Asks the origin for a bulk update."""
        raise NotImplementedError
