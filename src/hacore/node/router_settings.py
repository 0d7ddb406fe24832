"""A `[[vip]]` as the election and as `hacore.node.prepare` want it."""

from __future__ import annotations

from hacore.carp.router import KeyMaterial, RouterSettings
from hacore.carp.terms import master_down_interval
from hacore.node.settings import Vip


def router_settings(vip: Vip, previous: tuple[KeyMaterial, ...] = ()) -> RouterSettings:
    """The settings that the election takes; `previous` keys are those of `KeyRing`."""
    return RouterSettings(
        name=vip.name,
        interface=vip.interface,
        vhid=vip.vhid,
        advbase=vip.advbase,
        advskew=vip.advskew,
        addresses=tuple(str(address) for address in vip.addresses),
        password=bytes(vip.password),
        virtual_mac=vip.virtual_mac,
        peer=str(vip.peer or ""),
        peer6=str(vip.peer6 or ""),
        previous=previous,
    )


def prepare_request(vip: Vip, *, held: bool) -> dict[str, object]:
    """What the preparing process is told; `held`: this node is MASTER of it now."""
    return {
        "name": vip.name,
        "interface": vip.interface,
        "vhid": vip.vhid,
        "virtual_mac": vip.virtual_mac,
        "addresses": [str(address) for address in vip.addresses],
        "dead_time": master_down_interval(vip.advbase, vip.advskew, None),
        "held": held,
    }
