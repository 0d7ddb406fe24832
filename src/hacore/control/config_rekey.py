"""When every node is known to have a VHID's new addresses and password, the old ones need not be spoken any more.

The supervisor keeps them until then, so whoever still speaks old ones asks the others again and again: they may get the
new ones by a push, or from their administrator.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from hacore.control.config import vip_keys
from hacore.control.config_schemas import Rekeyed, VipKey
from hacore.control.problems import ApiError
from hacore.errors import HacoreError

if TYPE_CHECKING:
    from hacore.control.worker import ControlWorker

#: Between two questions, while there are old keys.
ASK_INTERVAL = 30.0


class Rekeying:
    """A part of the worker: knows what keys each peer said that it has."""

    def __init__(self, worker: ControlWorker) -> None:
        self._worker = worker
        self._known: dict[str, set[VipKey]] = {}
        self._reloaded = asyncio.Event()
        worker.on_start(self._start)
        worker.on_reload(self._reloaded.set)

    async def _start(self) -> None:
        self._worker.spawn(self._ask_while_old(), "comparing the keys of VHIDs")

    async def _ask_while_old(self) -> None:
        while True:
            self._reloaded.clear()
            again = True
            with suppress(HacoreError):
                answer = await self._worker.bus.request("rekeyed", vips=[])
                if again := bool(answer.get("old")):
                    await self.tell_all()
            with suppress(TimeoutError):
                async with asyncio.timeout(ASK_INTERVAL if again else None):
                    await self._reloaded.wait()  # without a reload there are no new ones

    async def in_force(self) -> list[VipKey]:
        """The keys that the election here works with. Raises HacoreError where it does not say."""
        await self._worker.bus.request("rekeyed", vips=[])
        return vip_keys(self._worker.settings)

    async def heard(self, peer: str, keys: Sequence[VipKey]) -> None:
        """A peer has these keys now."""
        self._known[peer] = set(keys)
        await self._let_go()

    async def tell_all(self) -> list[str]:
        """Compare keys with every peer; returns the VIPs of which all have the same. A peer that does not answer keeps
        the old keys alive.
        """
        try:
            own = Rekeyed(keys=await self.in_force())
        except HacoreError:
            return []

        async def one(name: str) -> None:
            try:
                answer = await self._worker.peers[name].ask("POST", "/rekeyed", own, response=Rekeyed)
                self._known[name] = set(answer.keys)
            except ApiError:
                self._known.pop(name, None)

        await asyncio.gather(*(one(name) for name in self._worker.peers))
        return await self._let_go()

    async def _let_go(self) -> list[str]:
        peers = [peer.name for peer in self._worker.settings.peers if peer.control is not None]
        if not peers:
            return []
        try:
            keys = {(key.interface, key.vhid): key for key in await self.in_force()}
            names = [
                vip.name
                for vip in self._worker.settings.vips
                if all(self._has(peer, keys[vip.interface, vip.vhid]) for peer in peers)
            ]
            if names:
                await self._worker.bus.request("rekeyed", vips=names)
            return names
        except HacoreError as error:
            self._worker.record("config", f"the election was not told which new keys are everywhere: {error}")
            return []

    def _has(self, peer: str, key: VipKey) -> bool:
        """Whether that peer has this key; one that has no such VHID at all, on whatever interface, needs none."""
        known = self._known.get(peer)
        return known is not None and (key in known or key.vhid not in {each.vhid for each in known})
