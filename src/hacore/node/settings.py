"""The settings of one node: the structs that mirror `hacore.toml`, and `load`, which reads them or names every problem.

Seconds are floats. Lists become tuples, so that two loads of the same file compare equal table by table. A value that
a push brought stands in `hacore.toml.d/50-synced.toml`; see `settings_tables` for how the files are laid over each
other.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from msgspec import Meta, Struct

from hacore.errors import Problem, SettingsError
from hacore.node import settings_values as values
from hacore.node.settings_values import Endpoint, Secret

DEFAULT_PATH = "/etc/hacore/hacore.toml"

Name = Annotated[str, Meta(extra={"parse": values.name})]
Command = Annotated[tuple[str, ...], Meta(extra={"parse": values.command})]
AnyInterface = Annotated[IPv4Interface | IPv6Interface, Meta(extra={"parse": values.virtual_address})]
AnyNetwork = Annotated[IPv4Network | IPv6Network, Meta(extra={"parse": values.network})]
Address4 = Annotated[IPv4Address, Meta(extra={"parse": values.peer_address})]
Address6 = Annotated[IPv6Address, Meta(extra={"parse": values.peer6_address})]
HostPort = Annotated[Endpoint, Meta(extra={"parse": values.endpoint})]
FilePath = Annotated[Path, Meta(extra={"parse": values.path, "relative_to": "settings file"})]
StatePath = Annotated[Path, Meta(extra={"parse": values.path, "relative_to": "state_dir"})]
AbsolutePath = Annotated[Path, Meta(extra={"parse": values.absolute_path})]
Text = Annotated[str, Meta(description="a string")]
Flag = Annotated[bool, Meta(description="true or false")]
Seconds = Annotated[float, Meta(gt=0, le=86400, description="a number of seconds above 0 and at most 86400")]
Times = Annotated[int, Meta(ge=1, le=1000, description="a whole number from 1 to 1000")]
Right = Literal["status", "services", "config"]
AnyRight = Annotated[Right, Meta(description='"status", "services" or "config"')]
State = Annotated[Literal["MASTER", "BACKUP", "INIT"], Meta(description='"MASTER", "BACKUP" or "INIT"')]


class Node(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[node]`: this machine."""

    name: Name = os.uname().nodename
    runtime_dir: FilePath = Path("/run/hacore")
    state_dir: FilePath = Path("/var/lib/hacore")
    realtime: Annotated[Literal["prefer", "require"], Meta(description='"prefer" or "require"')] = "prefer"
    variables: Annotated[dict[str, str], Meta(extra={"parse": values.variables})] = {}


class Carp(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[carp]`: what holds for every VIP. `rekey_time`: how long adverts go out under the old and the new key."""

    preempt: Flag = True
    seal: Annotated[Literal["off"], Meta(extra={"parse": values.seal})] = "off"
    rekey_time: Annotated[float, Meta(ge=0, le=86400, description="a number of seconds from 0 to 86400")] = 600.0


class Vip(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[vip]]`: a VHID on an interface, with its addresses of both families.

    `advbase` is in seconds, `advskew` and `advskew_step` in 1/256 s. `password` holds the bytes of the key, read from
    `password_file` when the settings name a file; `password_file` is kept so that a message can name it.
    """

    name: Name
    interface: Annotated[str, Meta(extra={"parse": values.interface})]
    vhid: Annotated[int, Meta(ge=1, le=255, description="a whole number from 1 to 255")]
    advbase: Annotated[int, Meta(ge=0, le=254, description="a whole number of seconds from 0 to 254")] = 1
    advskew: Annotated[int, Meta(ge=0, le=254, description="a whole number (of 1/256 s) from 0 to 254")] = 0
    password: Annotated[Secret, Meta(extra={"parse": values.secret})] = Secret()
    password_file: FilePath | None = None
    addresses: tuple[AnyInterface, ...]
    virtual_mac: Flag = True
    sync: Flag = True
    advskew_raised: Annotated[int, Meta(ge=0, le=254, description="a whole number (of 1/256 s) from 0 to 254")] = 0
    advskew_step: Annotated[int, Meta(ge=0, le=254, description="a whole number (of 1/256 s) from 0 to 254")] = 100
    peer: Address4 | None = None
    peer6: Address6 | None = None


class Check(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[check]]`: a command that demotes the node when it failed `fall` times, until it succeeded `rise` times.

    A run longer than `timeout` is killed and counts as failed; without one it is the interval.
    """

    name: Name
    command: Command
    interval: Seconds = 5.0
    timeout: Seconds = 5.0
    fall: Times = 3
    rise: Times = 2
    demotion: Annotated[int, Meta(ge=1, le=255, description="a whole number from 1 to 255")] = 240
    sync: Flag = True


class Hook(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[hook]]`: a command run after a transition to one of the states in `on`; killed after `timeout`."""

    name: Name
    on: tuple[State, ...]
    command: Command
    timeout: Seconds = 30.0


class Peer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[peer]]`: another node, where its workers listen, and what it may ask of this one."""

    name: Name
    control: HostPort | None = None
    states: HostPort | None = None
    allow: tuple[AnyRight, ...] = ("status", "services", "config")


class Ignore(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Connections that are not replicated: those that match every key given."""

    protocol: Annotated[str | int, Meta(extra={"parse": values.protocol})] | None = None
    network: AnyNetwork | None = None


class States(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[states]`: the replication of connections. `max_states` counts rows; `event_buffer_bytes` holds the kernel's
    events that were not read yet.
    """

    listen: HostPort
    bulk_deadline: Seconds = 60.0
    max_states: Annotated[int, Meta(ge=1, le=2**26 - 1, description="a whole number of rows from 1 to 67108863")] = (
        2_000_000
    )
    reconcile_interval: Seconds = 30.0
    event_buffer_bytes: Annotated[
        int, Meta(ge=4096, le=2**30, description="a whole number of bytes from 4096 to 1073741824")
    ] = 64 << 20
    ignore: tuple[Ignore, ...] = ()


class Control(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[control]`: the node-to-node API. Relative paths are relative to `state_dir`, where pairing puts these files."""

    listen: HostPort
    certificate: StatePath = Path("tls/node.crt")
    key: StatePath = Path("tls/node.key")
    trust: StatePath = Path("tls/peers.pem")


class Web(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[web]`: the status page; without a certificate of its own it uses the node's."""

    listen: HostPort = Endpoint(host="127.0.0.1", port=8118)
    certificate: FilePath | None = None
    key: FilePath | None = None


class Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[section]]`: files that a push carries together, or "vips", "sections", "checks": hacore's own settings.

    `check` and `apply` are killed after `timeout`. `outside_links`: links in it may lead out of it.
    """

    id: Name
    description: Text = ""
    paths: tuple[AbsolutePath, ...] = ()
    check: Command = ()
    apply: Command = ()
    timeout: Seconds = 60.0
    services: tuple[Name, ...] = ()
    templates: tuple[AbsolutePath, ...] = ()
    outside_links: Flag = False
    sync: Flag = True


class Service(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[service]]`: a systemd unit, or three commands; with `run_on` it follows a VIP.

    A start or stop that takes longer than `timeout` has failed; a command is killed then, a job of systemd goes on.
    """

    id: Name
    description: Text = ""
    unit: Annotated[str, Meta(extra={"parse": values.unit})] | None = None
    start: Command = ()
    stop: Command = ()
    status: Command = ()
    timeout: Annotated[float, Meta(gt=0, le=150, description="a number of seconds above 0 and at most 150")] = 90.0
    run_on: Annotated[Literal["MASTER"], Meta(description='"MASTER"')] | None = None
    vip: Name | None = None
    sync: Flag = True


class Synced(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[synced]`, written by a push into its own file: of these sections' tables, only this file's count.

    Tables of the files before it stay where they have `sync = false`.
    """

    sections: tuple[Name, ...] = ()


class Settings(Struct, frozen=True, kw_only=True):
    """Everything one node was told. `states`, `control` and `web` are None where absent: that worker does not run.

    `path` is the settings file, `files` all that were read (it first), `origins` the file of each array table by its
    label (`vip "lan"`). `warnings` are problems that a node can live with; they are shown by check, doctor and
    status.
    """

    path: str
    files: tuple[str, ...]
    origins: dict[str, str]
    warnings: tuple[Problem, ...]
    node: Node
    carp: Carp
    vips: tuple[Vip, ...]
    checks: tuple[Check, ...]
    hooks: tuple[Hook, ...]
    peers: tuple[Peer, ...]
    states: States | None
    control: Control | None
    web: Web | None
    sections: tuple[Section, ...]
    services: tuple[Service, ...]

    @property
    def interfaces(self) -> tuple[str, ...]:
        """The interfaces that VIPs stand on, each once, in the file's order."""
        return tuple(dict.fromkeys(vip.interface for vip in self.vips))


#: The tables that occur once, and those that occur many times with the field that names one of them.
SINGLE: dict[str, type[Struct]] = {
    "node": Node,
    "carp": Carp,
    "states": States,
    "control": Control,
    "web": Web,
    "synced": Synced,
}
MANY: dict[str, tuple[type[Struct], str]] = {
    "vip": (Vip, "name"),
    "check": (Check, "name"),
    "hook": (Hook, "name"),
    "peer": (Peer, "name"),
    "section": (Section, "id"),
    "service": (Service, "id"),
}


class Examination(NamedTuple):
    """All that is to be said about the files: `settings` is None where there are problems."""

    settings: Settings | None
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]


class Directories(NamedTuple):
    """Where a node keeps its sockets and what survives a reboot."""

    runtime_dir: Path
    state_dir: Path


def load(path: str | os.PathLike[str] = DEFAULT_PATH, links: Mapping[str, bool] | None = None) -> Settings:
    """The settings in the file `path` and in `PATH.d/*.toml` beside it; raises SettingsError with every problem.

    With `links`, the names of the machine's links and whether each carries Ethernet, a VIP's interface has to be one.
    """
    settings, problems, _ = examine(path, links)
    if settings is None:
        raise SettingsError(problems)
    return settings


def examine(
    path: str | os.PathLike[str] = DEFAULT_PATH,
    links: Mapping[str, bool] | None = None,
    staged: str | os.PathLike[str] = "",
) -> Examination:
    """Everything wrong or doubtful, and the settings if nothing is wrong.

    With `links`, the names of the machine's links and whether each carries Ethernet, a VIP's interface has to be one.
    With `staged`, a directory, a file that lies in it under its whole path counts in the place of that file.
    """
    from hacore.node.settings_checks import check_document, read_passwords
    from hacore.node.settings_tables import read_document

    main = Path(os.path.abspath(path))
    document = read_document(main, SINGLE, MANY, os.fspath(staged))
    read_passwords(document)
    check_document(document)
    if links is not None:
        for vip in document.entries("vip"):
            if vip.right("interface") and not links.get(vip.get("interface")):
                vip.problem("interface", _unusable(vip.get("interface"), links))
    problems, warnings = tuple(document.problems), tuple(document.warnings)
    if problems:
        return Examination(None, problems, warnings)
    single, many = document.single, document.many
    settings = Settings(
        path=str(main),
        files=tuple(document.files),
        origins={entry.label: entry.file for entries in many.values() for entry in entries},
        warnings=warnings,
        node=Node(**single["node"].values),
        carp=Carp(**single["carp"].values),
        states=States(**single["states"].values) if "states" in single else None,
        control=Control(**single["control"].values) if "control" in single else None,
        web=Web(**single["web"].values) if "web" in single else None,
        vips=tuple(Vip(**entry.values) for entry in many["vip"]),
        checks=tuple(Check(**entry.values) for entry in many["check"]),
        hooks=tuple(Hook(**entry.values) for entry in many["hook"]),
        peers=tuple(Peer(**entry.values) for entry in many["peer"]),
        sections=tuple(Section(**entry.values) for entry in many["section"]),
        services=tuple(Service(**entry.values) for entry in many["service"]),
    )
    return Examination(settings, (), warnings)


def load_directories(path: str | os.PathLike[str] = DEFAULT_PATH) -> Directories:
    """The directories alone, whatever else may be wrong: a node that runs must answer while its file is being edited.

    Raises SettingsError where a file cannot be read or does not say where the directories are.
    """
    from hacore.node.settings_tables import read_document

    document = read_document(Path(os.path.abspath(path)), SINGLE, MANY)
    problems = [one for one in document.problems if one.key in ("", "node", "node.runtime_dir", "node.state_dir")]
    if problems:
        raise SettingsError(problems)
    node = document.single["node"]
    return Directories(node.values["runtime_dir"], node.values["state_dir"])


def _unusable(interface: str, links: Mapping[str, bool]) -> str:
    usable = ", ".join(sorted(name for name, ethernet in links.items() if ethernet)) or "none"
    if interface in links:
        return f'"{interface}" carries no Ethernet frames, which CARP needs; usable are: {usable}'
    return f'there is no interface "{interface}" on this machine; there are: {usable}'
