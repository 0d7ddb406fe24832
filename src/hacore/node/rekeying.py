"""The end of a change of addresses or password: the old keys go as soon as every node is known to have the new ones.

Who knows that asks `rekeyed` on the bus. It is answered when the election works with the settings of the last reload,
so that nobody calls a key known that the election does not know yet.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from hacore.node.bus import BadRequest
from hacore.node.bus_server import Deferred, Handler, Request
from hacore.node.messages import AskReport, Rekeyed, Report

if TYPE_CHECKING:
    from hacore.node.supervisor import Supervisor

#: The numbers of these reports; those of the status count up from 1.
FIRST_NUMBER = -1


class RekeyingEnd:
    """Knows whether the election has the settings, and lets go of old keys."""

    def __init__(self, node: Supervisor) -> None:
        self._node = node
        self._number = FIRST_NUMBER
        self._settled = False
        self._waiting: list[tuple[Deferred, list[str]]] = []

    def handlers(self) -> dict[str, Handler]:
        """`rekeyed`: {"vips": [names]}; every node that can be asked has the keys of these. Without, it only waits.

        Answers {"gone": [names], "old": [names]}: whose old keys ended by that, and which still have any.
        """
        return {"rekeyed": self._rekeyed}

    def warnings(self) -> list[str]:
        """What the status says of keys that are still spoken long after they were replaced."""
        names = self._node.keys.overdue(self._node.settings.vips, time.time())
        if not names:
            return []
        peers = ", ".join(peer.name for peer in self._node.settings.peers if peer.control)
        what = f"{', '.join(names)}: the addresses or password from before the last change are still spoken"
        return [f"{what}: not every peer ({peers}) is known to have the new ones (hacore config push vips)"]

    def changing(self) -> None:
        """New settings are on their way to the election."""
        self._settled = False

    def configured(self) -> None:
        """They were sent; a report that comes after them says that they are in force."""
        self._number -= 1
        self._settled = False
        self._node.election.send(AskReport(self._number))

    def take_report(self, report: Report) -> None:
        """The election answered."""
        if report.number == self._number:
            self._settled = True
            waiting, self._waiting = self._waiting, []
            for deferred, names in waiting:
                deferred.resolve(self._let_go(names))

    def _rekeyed(self, request: Request) -> Deferred | dict[str, Any]:
        names = request.argument("vips", list)
        known = {vip.name for vip in self._node.settings.vips}
        for name in names:
            if not isinstance(name, str) or name not in known:
                raise BadRequest(f"there is no VIP {name!r} here")
        if self._settled:
            return self._let_go(names)
        deferred = Deferred()
        self._waiting.append((deferred, names))
        return deferred

    def _let_go(self, names: list[str]) -> dict[str, Any]:
        node = self._node
        vips = [vip for vip in node.settings.vips if vip.name in names]
        now = time.time()
        timed = any(peer.control is None for peer in node.settings.peers)
        gone, problem = node.keys.forget(vips, now, timed=timed)
        if problem:
            node.history.record("keys", problem)
        if gone:
            node.history.record("keys", f"every node has the new keys of {', '.join(gone)}: the old ones are not used")
        if vips:
            left = {vip.name: max((key.remaining for key in node.keys.previous(vip, now)), default=0.0) for vip in vips}
            node.election.send(Rekeyed(places=[(vip.interface, vip.vhid, left[vip.name]) for vip in vips]))
        return {"gone": gone, "old": [vip.name for vip in node.settings.vips if node.keys.previous(vip, now)]}
