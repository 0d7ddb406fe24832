"""When every node is known to have a VHID's new addresses and password, the old ones need not be spoken any more."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hacore.control.config import vip_keys
from hacore.control.config_schemas import Rekeyed, VipKey
from hacore.control.problems import ApiError
from hacore.errors import HacoreError

if TYPE_CHECKING:
    from hacore.control.worker import ControlWorker


class Rekeying:
    """A part of the worker: knows what keys each peer said that it has."""

    def __init__(self, worker: ControlWorker) -> None:
        self._worker = worker
        self._known: dict[str, set[VipKey]] = {}

    async def in_force(self) -> list[VipKey]:
        """The keys that the election here works with; none where it does not say."""
        try:
            await self._worker.bus.request("rekeyed", vips=[])
        except HacoreError:
            return []
        return vip_keys(self._worker.settings)

    async def heard(self, peer: str, keys: Sequence[VipKey]) -> None:
        """A peer has these keys now."""
        self._known[peer] = set(keys)
        await self._let_go()

    async def tell_all(self) -> list[str]:
        """Compare keys with every peer; returns the VIPs of which all have the same. A peer that does not answer keeps
        the old keys alive until `rekey_time` ends them.
        """

        own = Rekeyed(keys=await self.in_force())

        async def one(name: str) -> None:
            try:
                answer = await self._worker.peers[name].ask("POST", "/rekeyed", own, response=Rekeyed)
                self._known[name] = set(answer.keys)
            except ApiError:
                self._known.pop(name, None)

        await asyncio.gather(*(one(name) for name in self._worker.peers))
        return await self._let_go()

    async def _let_go(self) -> list[str]:
        settings = self._worker.settings
        peers = [peer.name for peer in settings.peers]
        if not peers:
            return []
        common = set(await self.in_force())
        for name in peers:
            common &= self._known.get(name, set())
        places = {(key.interface, key.vhid): key for key in common}
        names = [vip.name for vip in settings.vips if (vip.interface, vip.vhid) in places]
        if names:
            try:
                await self._worker.bus.request("rekeyed", vips=names)
            except HacoreError as error:
                self._worker.record("config", f"the election was not told that the new keys are everywhere: {error}")
                return []
        return names
