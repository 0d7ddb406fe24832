"""What must hold between the keys of the settings: each rule is a function that reports what contradicts it."""

from __future__ import annotations

import os
import stat
from typing import Any

from hacore.configsync.manifest import within
from hacore.configsync.own_settings import BUILT_IN, HIGHEST_RATIO, interval_ratio
from hacore.errors import Problem
from hacore.node.settings_tables import Document, Entry
from hacore.node.settings_values import PASSWORD_BYTES, Secret, shown

#: struct sockaddr_un holds 108 bytes with the closing NUL; the longest socket's name in runtime_dir is counted in.
SOCKET_PATH_BYTES = 107
LONGEST_SOCKET_NAME = "/hacore.sock"
#: No key file is larger; a few more bytes are read so that a trailing newline does not count.
LARGEST_KEY_FILE_BYTES = 4096


def read_passwords(document: Document) -> None:
    """Puts each VIP's key in place. A key that everybody can read is a warning and not an error.

    Refusing to start would take the firewall's addresses away because of a file mode, which is worse than the
    exposure to local users of a machine that hardly anyone logs in to; the warning stays in `check`, `doctor` and
    `status` until the mode is right.
    """
    warned: set[str] = set()
    for vip in document.entries("vip"):
        inline, file = "password" in vip.given, "password_file" in vip.given
        if inline and file:
            vip.problem("password", "stands beside password_file; keep one of them")
        elif not inline and not file:
            vip.problem("password_file", "is missing: a file with the password that all nodes of this VIP share")
        elif inline:
            _warn_inline(vip, warned)
        elif vip.right("password_file"):
            _read_key(vip, warned)


def _warn_inline(vip: Entry, warned: set[str]) -> None:
    file, _ = vip.locate("password")
    if vip.get("password") == b"":
        vip.warning("password", "is empty: anybody on the segment can take these addresses")
    _warn_short_of_peers(vip, "password")
    try:
        mode = os.stat(file).st_mode
    except OSError:
        return
    if mode & stat.S_IROTH and file not in warned:
        warned.add(file)
        vip.warning("password", f"stands in a file that everybody can read: chmod 640 {file}, or use password_file")


def _warn_short_of_peers(vip: Entry, key: str) -> None:
    if vip.right("password") and len(vip.get("password")) == PASSWORD_BYTES:
        vip.warning(key, f"has {PASSWORD_BYTES} bytes; ucarp and ifconfig on the BSDs use at most 19")


def _read_key(vip: Entry, warned: set[str]) -> None:
    path = str(vip.values["password_file"])
    vip.values.pop("password", None)
    place = vip.document.place(path)
    try:
        status = os.stat(place)
        if not stat.S_ISREG(status.st_mode):
            vip.problem("password_file", f"{path} is not a regular file")
            return
        with open(place, "rb") as stream:
            key = stream.read(LARGEST_KEY_FILE_BYTES)
    except FileNotFoundError:
        vip.problem("password_file", f"{path} does not exist; write the shared password into it (mode 600)")
        return
    except (OSError, ValueError) as error:
        vip.problem("password_file", f"{path} cannot be read: {getattr(error, 'strerror', None) or error}")
        return
    key = key.removesuffix(b"\n").removesuffix(b"\r")
    if not key:
        vip.problem("password_file", f"{path} is empty; write the shared password into it")
    elif len(key) > PASSWORD_BYTES:
        length = f"{len(key)} or more" if len(key) >= LARGEST_KEY_FILE_BYTES - 2 else len(key)
        vip.problem(
            "password_file",
            f"{path} must hold at most {PASSWORD_BYTES} bytes (19 if a BSD or ucarp is to share it), not {length}",
        )
    else:
        vip.values["password"] = Secret(key)
        _warn_short_of_peers(vip, "password_file")
    if place == path and status.st_mode & (stat.S_IROTH | stat.S_IWOTH) and path not in warned:
        warned.add(path)
        can = "read" if not status.st_mode & stat.S_IWOTH else "write"
        vip.warning("password_file", f"{path} is a file that everybody can {can}: chmod 600 {path}")


def check_document(document: Document) -> None:
    """Applies every rule; problems and warnings are added to the document."""
    _node(document)
    _vips(document)
    _unique_vhids(document.entries("vip"))
    _unique_addresses(document.entries("vip"))
    _checks_and_hooks(document)
    _peers(document)
    _states_and_web(document)
    _sections(document)
    _services(document)


def _node(document: Document) -> None:
    node = document.single["node"]
    if "name" not in node.given:
        from hacore.node.settings_values import name

        try:
            name(node.values["name"])
        except ValueError as error:
            node.problem("name", f"is missing, and this machine's own name will not do: it {error}")
    if node.right("runtime_dir"):
        length = len(os.fsencode(f"{node.get('runtime_dir')}{LONGEST_SOCKET_NAME}"))
        if length > SOCKET_PATH_BYTES:
            most, given = (count - len(LONGEST_SOCKET_NAME) for count in (SOCKET_PATH_BYTES, length))
            node.problem(
                "runtime_dir",
                f"is too long for the path of a Unix socket: at most {most} bytes, not {given}",
            )
    if node.right("runtime_dir", "state_dir") and node.get("runtime_dir") == node.get("state_dir"):
        node.problem("state_dir", "must not be runtime_dir, which is cleared at a reboot")
    if not document.entries("vip"):
        unread = any(problem.key in ("", "vip") for problem in document.problems)
        if not unread:
            document.warnings.append(Problem(document.files[0], "", "there is no [[vip]]: this node holds no address"))
    control = document.single.get("control")
    if control is not None and node.right("state_dir"):
        for key in ("certificate", "key", "trust"):
            if control.right(key):
                control.values[key] = node.values["state_dir"] / control.values[key]


def _vips(document: Document) -> None:
    for vip in document.entries("vip"):
        if vip.right("addresses") and not vip.get("addresses"):
            vip.problem("addresses", 'needs at least one address, such as ["192.0.2.1/24"]')
        if "advskew_step" not in vip.given and vip.get("advbase") == 0:
            vip.values["advskew_step"] = 1
        if vip.right("advbase", "advskew", "advskew_step", "sync") and vip.get("advbase") == 0 and vip.get("sync"):
            ratio = interval_ratio(0, vip.get("advskew"), vip.get("advskew_step"))
            if ratio > HIGHEST_RATIO:
                vip.warning(
                    "advskew_step",
                    f"makes the interval of the backup {ratio:.3g} times this node's; at advbase 0 more than "
                    f"{HIGHEST_RATIO} times delays a failover: raise advskew or lower advskew_step",
                )
        families = {address.version for address in vip.get("addresses") or ()}
        for key, version in (("peer", 4), ("peer6", 6)):
            peer = vip.get(key)
            if peer is None or not families:
                continue
            if version not in families:
                vip.problem(
                    key, f"needs an IPv{version} address in addresses: adverts of that family are sent only for such"
                )
            elif peer in {address.ip for address in vip.get("addresses")}:
                vip.problem(key, f"{peer} is a virtual address of this VIP; it must be the other node's own address")


def _unique_vhids(vips: list[Entry]) -> None:
    seen: dict[tuple[str, int], Entry] = {}
    for vip in vips:
        if vip.right("interface", "vhid"):
            place = (vip.get("interface"), vip.get("vhid"))
            if place in seen:
                vip.problem(
                    "vhid",
                    f"{place[1]} on {place[0]} is taken by {seen[place].label}; a vhid is used once on an interface",
                )
            seen.setdefault(place, vip)


def _unique_addresses(vips: list[Entry]) -> None:
    seen: dict[tuple[Any, str | None], Entry] = {}
    for vip in vips:
        for index, address in enumerate(vip.get("addresses") or (), 1):
            # The same link-local address may stand on several links: it means another one on each.
            place = (address.ip, vip.get("interface") if address.ip.is_link_local else None)
            if place in seen:
                where = "this list" if seen[place] is vip else seen[place].label
                vip.problem(f"addresses[{index}]", f"{address.ip} is in {where} already; an address belongs to one VIP")
            seen.setdefault(place, vip)


def _checks_and_hooks(document: Document) -> None:
    for check in document.entries("check"):
        if "timeout" not in check.given and check.right("interval"):
            check.values["timeout"] = check.values["interval"]
    for hook in document.entries("hook"):
        states = hook.get("on")
        if states == ():
            hook.problem("on", 'needs at least one of "MASTER", "BACKUP" and "INIT"')
        elif states and len(set(states)) < len(states):
            hook.problem("on", "names a state twice")


def _peers(document: Document) -> None:
    own = document.single["node"].get("name")
    seen: dict[Any, str] = {}
    for peer in document.entries("peer"):
        if own is not None and peer.get("name") == own:
            peer.problem("name", f'"{own}" is the name of this node (node.name); every node needs its own')
        for key in ("control", "states"):
            place = peer.get(key)
            if place is not None and place in seen:
                peer.problem(key, f"{place} is {seen[place]} already")
            elif place is not None:
                seen[place] = f"{peer.label}: {key}"


def _states_and_web(document: Document) -> None:
    listening: dict[Any, str] = {}
    for table in ("states", "control", "web"):
        entry = document.single.get(table)
        if entry is None:
            continue
        place = entry.get("listen")
        if place is not None and place in listening:
            entry.problem("listen", f"{place} is {listening[place]} already")
        elif place is not None:
            listening[place] = f"{table}.listen"
    states = document.single.get("states")
    for index, ignore in enumerate((states.get("ignore") if states else None) or (), 1):
        if states is not None and ignore.protocol is None and ignore.network is None:
            states.problem(
                f"ignore[{index}]", "needs protocol, network or both: as it stands it would ignore everything"
            )
    web = document.single.get("web")
    if web is not None:
        if "control" not in document.single:
            web.problem(
                "listen", "needs the table [control]: the page is served by its worker, and asks the peers by it"
            )
        for key, other in (("certificate", "key"), ("key", "certificate")):
            if key in web.given and other not in web.given:
                web.problem(other, f"is missing beside {key}; give both, or neither to use the node's own")


def _sections(document: Document) -> None:
    node = document.single["node"]
    own = {f"{document.files[0]}": "the settings file", f"{document.files[0]}.d": "the settings' directory"}
    own |= {str(node.get(key)): key for key in ("state_dir", "runtime_dir") if node.right(key)}
    taken: list[tuple[str | None, str]] = []
    for section in document.entries("section"):
        identity = section.get("id")
        if identity is not None and identity.isdecimal():
            section.problem("id", f'must not be a number alone such as "{identity}": those are revisions')
        if identity in BUILT_IN:
            tables = " and ".join(f"[[{table}]]" for table in BUILT_IN[identity])
            for key in ("paths", "check", "apply", "templates"):
                if key in section.given:
                    section.problem(
                        key,
                        f'has no place in the section "{identity}", which is built in and carries the {tables} tables',
                    )
        elif section.get("paths") == ():
            section.problem("paths", 'needs at least one file or directory, such as ["/etc/nftables.conf"]')
        paths = section.get("paths") or ()
        for index, path in enumerate(paths, 1):
            for place, what in own.items():
                if within(place, [str(path)]) or within(str(path), [place]):
                    section.problem(
                        f"paths[{index}]",
                        f"{path} is or holds {what} ({place}), which belongs to this node; name the other files one by "
                        'one, and push hacore\'s own settings with the sections "vips", "sections" and "checks"',
                    )
            for other, theirs in taken:
                if within(str(path), [theirs]) or within(theirs, [str(path)]):
                    section.problem(
                        f"paths[{index}]",
                        f'{path} overlaps {theirs} of the section "{other}": what both carry would be replaced and put '
                        "back by either; a path belongs into one section",
                    )
        taken += [(identity, str(path)) for path in paths]
        for index, template in enumerate(section.get("templates") or (), 1):
            if paths and not any(template == path or path in template.parents for path in paths):
                section.problem(f"templates[{index}]", f"{template} is not among the paths of this section")


def _services(document: Document) -> None:
    vips = {vip.get("name") for vip in document.entries("vip")}
    for service in document.entries("service"):
        commands = [key for key in ("start", "stop", "status") if key in service.given]
        if "unit" in service.given and commands:
            service.problem(commands[0], "stands beside unit; give a unit, or start, stop and status")
        elif "unit" not in service.given and not commands:
            service.problem(
                "unit", 'is missing: give a systemd unit such as "dnsmasq.service", or start, stop and status'
            )
        elif commands:
            for key in ("start", "stop", "status"):
                if key not in commands:
                    service.problem(key, f"is missing beside {commands[0]}")
        if "run_on" in service.given and "vip" not in service.given:
            service.problem("vip", "is missing beside run_on: the VIP to follow")
        if "vip" in service.given and "run_on" not in service.given:
            service.problem("run_on", 'is missing beside vip: "MASTER"')
        vip = service.get("vip")
        if vip is not None and vip not in vips:
            there = ", ".join(sorted(shown(name) for name in vips if name)) or "none"
            service.problem("vip", f'there is no [[vip]] named "{vip}"; there are: {there}')
