"""The origin: what the kernel's own table says, into the table and the log."""

from __future__ import annotations

from hacore.states.layout import Rows
from hacore.states.replica import Expectations


class Origin:
    """Kernel events and dumps come here in batches. Echoes of this node's own injecting and what the settings ignore are left out before.

    Counters (`int`, ever): `observed` events, `claimed` rows taken over from another owner, `contested` rows that traffic changed
    here and another node keeps, `sightings` destroy events of rows of connected peers, left alone.
    """

    observed: int
    claimed: int
    contested: int
    sightings: int

    def observe(self, rows: Rows, events: Rows, now: float) -> int:
        """Events as `EventSocket.receive` gives them: (n,) rows and EVENT_DTYPE beside them, in order; how many changes came of them.

        A key may come any number of times. `rows` is overwritten (completed). Returns changes put into the log.
        """
        raise NotImplementedError

    def observe_expectations(self, expectations: Expectations, events: Rows, now: float) -> None:
        """Events of expectations, in order: (n,) of EXPECTATION_DTYPE and EVENT_DTYPE."""
        raise NotImplementedError

    def begin_reconcile(self, now: float) -> None:
        """A dump of the kernel's table starts: before it is asked for."""
        raise NotImplementedError

    def reconcile(self, rows: Rows, now: float) -> int:
        """A batch of the dump, at once when it is received (no events in between). Not traffic: no row changes hands. Returns changes."""
        raise NotImplementedError

    def end_reconcile(self, now: float, *, complete: bool = True) -> int:
        """The dump's end: rows that were not seen are deleted, if it was `complete`; how many."""
        raise NotImplementedError

    def expectations(self) -> Expectations:
        """Those that are in force here."""
        raise NotImplementedError

    def clear(self, now: float) -> None:
        """This node owns nothing any more; the replicas drop its rows."""
        raise NotImplementedError

    def drop_queue(self, reason: str, now: float) -> None:
        """After a hang: nothing that waits in the log is sent any more; digests tell what the peers miss."""
        raise NotImplementedError
