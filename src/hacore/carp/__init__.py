"""The protocol core of CARP. Names are imported from their modules when they are first asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hacore.carp.counters import Counters
    from hacore.carp.demotion import Demotion
    from hacore.carp.election import Election, Outgoing
    from hacore.carp.events import DemotionChanged, Noticed, Transition
    from hacore.carp.key import Advertisement, AdvertKey, Verdict
    from hacore.carp.router import Port, RouterSettings, VirtualRouter
    from hacore.carp.table import Situation
    from hacore.carp.terms import State

__all__ = [
    "AdvertKey",
    "Advertisement",
    "Counters",
    "Demotion",
    "DemotionChanged",
    "Election",
    "Noticed",
    "Outgoing",
    "Port",
    "RouterSettings",
    "Situation",
    "State",
    "Transition",
    "Verdict",
    "VirtualRouter",
]

_MODULES = {
    "AdvertKey": "hacore.carp.key",
    "Advertisement": "hacore.carp.key",
    "Counters": "hacore.carp.counters",
    "Demotion": "hacore.carp.demotion",
    "DemotionChanged": "hacore.carp.events",
    "Election": "hacore.carp.election",
    "Noticed": "hacore.carp.events",
    "Outgoing": "hacore.carp.election",
    "Port": "hacore.carp.router",
    "RouterSettings": "hacore.carp.router",
    "Situation": "hacore.carp.table",
    "State": "hacore.carp.terms",
    "Transition": "hacore.carp.events",
    "Verdict": "hacore.carp.key",
    "VirtualRouter": "hacore.carp.router",
}


def __getattr__(name: str) -> object:
    try:
        module = _MODULES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    value = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
