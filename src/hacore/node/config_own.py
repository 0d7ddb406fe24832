"""hacore's own settings on this machine, as the tables that the built-in sections carry."""

from __future__ import annotations

import tomllib
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from pathlib import Path
from typing import Any

import msgspec

from hacore.configsync import own_settings
from hacore.errors import PlatformError
from hacore.node.durable import sync_directory, write_durably
from hacore.node.settings import Settings
from hacore.node.settings_values import Secret

FILE = "50-synced.toml"


def tables(settings: Settings) -> own_settings.Tables:
    """Every table that a built-in section may carry, in the form in which two nodes compare them.

    A value that is empty is left out; a path in the settings' own directory is relative to that.
    """
    base = Path(settings.path).parent
    arrays = {
        "vip": settings.vips,
        "section": settings.sections,
        "service": settings.services,
        "check": settings.checks,
    }
    return {table: [_table(item, base) for item in items] for table, items in arrays.items()}


def _table(item: msgspec.Struct, base: Path) -> own_settings.Table:
    found = {}
    for name in item.__struct_fields__:
        value = getattr(item, name)
        if value is None or value in ((), "") or (name == "password" and getattr(item, "password_file", None)):
            continue
        if (name == "sync" and value) or (name == "advskew_raised" and not value):
            continue
        found[name] = _plain(value, base)
    return found


def _plain(value: Any, base: Path) -> Any:
    if isinstance(value, tuple):
        return [_plain(item, base) for item in value]
    if isinstance(value, Secret):
        return bytes(value).decode()
    if isinstance(value, Path):
        return str(value.relative_to(base)) if value.is_relative_to(base) else str(value)
    if isinstance(value, IPv4Interface | IPv6Interface | IPv4Address | IPv6Address):
        return str(value)
    return value


def synced_file(settings_path: str) -> Path:
    """Where what was pushed lies."""
    return Path(f"{settings_path}.d") / FILE


def read_parts(path: Path) -> dict[str, own_settings.Tables]:
    """What was pushed to this node of each built-in section; raises PlatformError where the file is broken."""
    try:
        return own_settings.parts_of(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise PlatformError(f"{path} cannot be read: {error}") from None


def write_synced(path: Path, content: bytes) -> None:
    """Replace what was pushed of the settings; nothing at all where the content is empty."""
    if content:
        write_durably(path, content, mode=0o600)
    elif path.exists():
        path.unlink()
        sync_directory(path.parent)
