"""The single values of the settings: each function turns what the file holds into the typed value.

What cannot be turned is a ValueError (TypeError) that says what would be right.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)
from pathlib import Path
from typing import Any, TypeVar

from msgspec import Struct

T = TypeVar("T")

#: Longest value shown in a message: enough to recognize it, and a message stays one line.
SHOWN = 60
#: IFNAMSIZ - 1, net/core/dev.c dev_valid_name().
INTERFACE_NAME_BYTES = 15
PASSWORD_BYTES = 20
PROTOCOLS = ("icmp", "tcp", "udp", "dccp", "gre", "esp", "ah", "icmpv6", "ospf", "sctp", "udplite")


class Secret(bytes):
    """Bytes that show themselves nowhere."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Secret(...)"

    __str__ = __repr__


class Endpoint(Struct, frozen=True, kw_only=True):
    """A host (an address or a name) and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def shown(value: object) -> str:
    """`value` as the file might hold it, cut to one short line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "an empty list" if not value else "a list"
    if isinstance(value, int) and value.bit_length() > 200:
        return "a very large number"
    text = '"' + value.replace("\n", "\\n") + '"' if isinstance(value, str) else str(value)
    text = "".join(character if character.isprintable() else "?" for character in text)
    return text if len(text) <= SHOWN else text[: SHOWN - 4] + "..." + text[-1]


def shown_key(key: str) -> str:
    """`key` as it is where TOML takes it bare, else quoted and cut."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]{1,60}", key) else shown(key)


def string(value: object, right: str) -> str:
    """`value` if it is a string without NUL that is not empty."""
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError(f"must be {right}, not {shown(value)}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"must be {right}, not text that UTF-8 cannot hold") from None
    return value


def name(value: object) -> str:
    """A name: it appears in tables, in metrics and in the environment of hooks, hence the narrow alphabet."""
    right = 'a name of letters, digits, ".", "_" or "-" (at most 64, a letter or digit first)'
    text = string(value, right)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", text):
        raise ValueError(f"must be {right}, not {shown(value)}")
    return text


def unit(value: object) -> str:
    """A systemd unit's full name."""
    right = 'a systemd unit such as "dnsmasq.service"'
    text = string(value, right)
    if not re.fullmatch(r"[A-Za-z0-9:_.\\@-]{1,240}\.(service|socket|target|timer|path|mount|slice|scope)", text):
        raise ValueError(f"must be {right}, not {shown(value)}")
    return text


def interface(value: object) -> str:
    """A name the kernel allows for an interface."""
    right = f"the name of an interface (at most {INTERFACE_NAME_BYTES} bytes, no space, slash or colon)"
    text = string(value, right)
    if len(text.encode()) > INTERFACE_NAME_BYTES or text in (".", "..") or re.search(r"[\s/:]", text):
        raise ValueError(f"must be {right}, not {shown(value)}")
    return text


def command(value: object) -> tuple[str, ...]:
    """A command and its arguments, run without a shell."""
    right = 'a list of strings, the command first, such as ["ping", "-c1", "192.0.2.1"]'
    if not isinstance(value, list) or not value or not all(isinstance(word, str) for word in value):
        raise ValueError(f"must be {right}, not {shown(value)}")
    if not value[0].strip():
        raise ValueError(f"must be {right}; the command is empty")
    if any("\0" in word for word in value):
        raise ValueError(f"must be {right}, without NUL characters")
    return tuple(value)


def path(value: object) -> Path:
    """A file's or directory's path, not resolved."""
    return Path(string(value, 'a path such as "/etc/hacore/carp.key"'))


def absolute_path(value: object) -> Path:
    """A path from the root."""
    right = 'an absolute path such as "/etc/nftables.conf"'
    text = string(value, right)
    if not text.startswith("/") or ".." in text.split("/"):
        raise ValueError(f'must be {right} without "..", not {shown(value)}')
    return Path(text)


def secret(value: object) -> Secret:
    """A CARP password: up to 20 bytes. The value appears in no message."""
    if not isinstance(value, str):
        raise TypeError("must be a string")
    try:
        key = value.encode()
    except UnicodeEncodeError:
        raise ValueError("must be text that UTF-8 can hold") from None
    if len(key) > PASSWORD_BYTES:
        raise ValueError(
            f"must be at most {PASSWORD_BYTES} bytes (19 if a BSD or ucarp is to share it), not {len(key)}"
        )
    return Secret(key)


def seal(value: object) -> str:
    """The only way adverts are sent until there are sealed ones."""
    if value in ("prefer", "require"):
        raise ValueError(f'{shown(value)} needs sealed adverts, which this version does not have; it must be "off"')
    if value != "off":
        raise ValueError(f'must be "off", not {shown(value)}')
    return "off"


def _from_text(value: object, right: str, parse: Callable[[str], T]) -> T:
    text = string(value, right)
    try:
        return parse(text)
    except ValueError:
        raise ValueError(f"must be {right}, not {shown(value)}") from None


def _usable(address: IPv4Address | IPv6Address, value: object) -> None:
    if (
        address.is_multicast
        or address.is_unspecified
        or address.is_loopback
        or address == IPv4Address("255.255.255.255")
    ):
        kind = "a multicast" if address.is_multicast else "a loopback" if address.is_loopback else "an unusable"
        raise ValueError(f"must be a unicast address of one host; {shown(value)} is {kind} address")


def virtual_address(value: object) -> IPv4Interface | IPv6Interface:
    """An address with its prefix length, that of one host in the subnet."""
    right = 'an address with its prefix length, such as "192.0.2.1/24" or "2001:db8::1/64"'
    text = string(value, right)
    if "/" not in text:
        raise ValueError(f"must be {right}; {shown(value)} has no prefix length")
    if "%" in text:
        raise ValueError(f'must be {right}, without "%": the interface is named by the key "interface"')
    host, _, length = text.partition("/")
    try:
        address = ip_address(host)
    except ValueError:
        raise ValueError(f"must be {right}, not {shown(value)}") from None
    family, bits = ("IPv4", 32) if address.version == 4 else ("IPv6", 128)
    if not re.fullmatch(r"[0-9]{1,3}", length) or not 1 <= int(length) <= bits:
        raise ValueError(
            f"the prefix length of an {family} address is a whole number from 1 to {bits}, not {shown(length)}"
        )
    _usable(address, value)
    whole = ip_interface(text)
    if int(length) <= bits - 2:
        if address == whole.network.network_address:
            meaning = "the network's address" if address.version == 4 else "the anycast address of the subnet's routers"
            raise ValueError(f"must be the address of one host; {shown(value)} is {meaning}")
        if address.version == 4 and address == whole.network.broadcast_address:
            raise ValueError(f"must be the address of one host; {shown(value)} is the network's broadcast address")
    return whole


def peer_address(value: object) -> IPv4Address:
    """The IPv4 address that unicast adverts go to."""
    right = 'an IPv4 address without prefix length, such as "192.0.2.2"'
    address = _from_text(value, right, IPv4Address)
    _usable(address, value)
    return address


def peer6_address(value: object) -> IPv6Address:
    """The IPv6 address that unicast adverts go to; a link-local one is taken on the VIP's interface."""
    right = 'an IPv6 address without prefix length or scope, such as "2001:db8::2"'
    address = _from_text(value, right, IPv6Address)
    if address.scope_id is not None:
        raise ValueError(f"must be {right}, not {shown(value)}")
    _usable(address, value)
    return address


def network(value: object) -> IPv4Network | IPv6Network:
    """A network; bits behind the prefix are an error, because they show that something else was meant."""
    return _from_text(
        value, 'a network such as "192.0.2.0/24" or "2001:db8::/32" (no bits set behind the prefix)', ip_network
    )


def protocol(value: object) -> str | int:
    """An IP protocol by its number or by one of the names known here."""
    right = f"a protocol number from 0 to 255 or one of {', '.join(PROTOCOLS)}"
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255:
        return value
    if isinstance(value, str) and value in PROTOCOLS:
        return value
    raise ValueError(f"must be {right}, not {shown(value)}")


def endpoint(value: object) -> Endpoint:
    """HOST:PORT, an IPv6 address in brackets."""
    right = 'HOST:PORT, such as "192.0.2.1:8117" or "[2001:db8::1]:8117"'
    text = string(value, right)
    match = re.fullmatch(r"(?:\[([^\[\]]+)\]|([^:\[\]]+)):([0-9]{1,5})", text)
    if match is None:
        raise ValueError(f"must be {right}, not {shown(value)}")
    if not 1 <= int(match[3]) <= 65535:
        raise ValueError(f"the port must be a number from 1 to 65535, not {match[3]}")
    try:
        host = str(IPv6Address(match[1])) if match[1] else str(IPv4Address(match[2]))
    except ValueError:
        host = match[2] or ""
        label = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
        if not re.fullmatch(rf"{label}(\.{label})*", host) or len(host) > 253 or re.fullmatch(r"[0-9.]+", host):
            raise ValueError(
                f"must be {right}; {shown(match[1] or host)} is neither an address nor a host's name"
            ) from None
    return Endpoint(host=host, port=int(match[3]))


def variables(value: object) -> dict[str, str]:
    """The values that templates take: strings under names."""
    if not isinstance(value, dict):
        raise TypeError(
            f'must be a table of strings, such as [node.variables] address = "192.0.2.1", not {shown(value)}'
        )
    found: dict[str, str] = {}
    wrong = []
    item: Any
    for key, item in value.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", key):
            wrong.append(f"the name of a variable has letters, digits and _ (a letter or _ first), unlike {shown(key)}")
        elif not isinstance(item, str):
            wrong.append(f"{key} must be a string, not {shown(item)}")
        else:
            found[key] = item
    if wrong:
        raise ValueError(*wrong)
    return found
