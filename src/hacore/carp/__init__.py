"""The protocol core of CARP. Names are imported from their modules when they are first asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hacore.carp.key import Advertisement, AdvertKey, Verdict

__all__ = ["AdvertKey", "Advertisement", "Verdict"]

_MODULES = {
    "AdvertKey": "hacore.carp.key",
    "Advertisement": "hacore.carp.key",
    "Verdict": "hacore.carp.key",
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
