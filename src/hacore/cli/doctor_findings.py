"""What `hacore doctor` finds: features of the machine, settings, the running node; each judged as needed or not."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from hacore.errors import Problem
    from hacore.linux.features import Feature
    from hacore.node.settings import Settings


class Finding(NamedTuple):
    """One line: `needed` where a node cannot run without it; `remedy` is empty where all is well."""

    name: str
    ok: bool
    needed: bool
    finding: str
    remedy: str = ""


#: Without these no node runs at all; the others have their price, which the finding tells.
NEEDED = {"CAP_NET_ADMIN", "CAP_NET_RAW", "kernel", "nftables", "/proc/sys"}
#: Needed where the settings say realtime = "require".
REALTIME = {"SCHED_RR", "memory lock"}
PRIVILEGES = {"CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_SYS_NICE", "CAP_IPC_LOCK", "SCHED_RR", "memory lock"}


def examine_all(settings_path: str) -> dict[str, list[Finding]]:
    """Every finding under its topic, in the order in which they are shown."""
    settings, about_settings = _settings(settings_path)
    features = [_judged(feature, settings) for feature in _features()]
    return {
        "Privileges": [one for one in features if one.name in PRIVILEGES],
        "Kernel and clock": [one for one in features if one.name not in PRIVILEGES],
        "Settings": about_settings,
        "Node": list(_node(settings_path)),
    }


def _features() -> Iterator[Feature]:
    from hacore.errors import HacoreError
    from hacore.linux.features import PROBES, Feature

    for probe in PROBES:
        try:
            yield probe()
        except (OSError, HacoreError) as error:
            yield Feature(probe.__name__, False, f"cannot be examined: {error}", "run this as root (sudo)")


def _judged(feature: Feature, settings: Settings | None) -> Finding:
    needed = feature.name in NEEDED
    needed |= feature.name in REALTIME and settings is not None and settings.node.realtime == "require"
    if feature.name == "macvlan":
        needed = settings is None or any(vip.virtual_mac for vip in settings.vips)
    return Finding(feature.name, feature.ok, needed, feature.finding, feature.remedy)


def _settings(settings_path: str) -> tuple[Settings | None, list[Finding]]:
    from hacore.linux.rtnl import dump_links
    from hacore.node.settings import examine

    main = os.path.abspath(settings_path)
    settings, problems, warnings = examine(main, {link.name: link.ethernet for link in dump_links()})

    def finding(problem: Problem, needed: bool) -> Finding:
        key = problem.key or os.path.basename(problem.file)
        where = "" if problem.file == main else f" ({problem.file})"
        return Finding(key, False, needed, problem.message + where)

    findings = [finding(problem, True) for problem in problems] + [finding(warning, False) for warning in warnings]
    if settings is not None:
        findings.insert(
            0, Finding(os.path.basename(main), True, True, f"{main} is good, number of VIPs: {len(settings.vips)}")
        )
    return settings, findings


def _node(settings_path: str) -> Iterator[Finding]:
    import msgspec

    from hacore.cli.status_view import Seen
    from hacore.cli.target import directories, listens
    from hacore.errors import HacoreError, SettingsError
    from hacore.node import maintenance
    from hacore.node.bus import Client
    from hacore.node.snapshot import Snapshot

    try:
        places = directories(settings_path)
    except SettingsError:
        yield Finding("running", False, False, "not known: the settings do not say where it would be")
        return
    try:
        in_maintenance = maintenance.is_entered(places.state_dir)
    except HacoreError as error:
        yield Finding("maintenance", False, False, str(error))
        in_maintenance = False
    if in_maintenance:
        yield Finding("maintenance", False, False, "entered: this node takes no address", "hacore maintenance leave")
    if not listens(places):
        remedy = "systemctl start hacore, or hacore run"
        yield Finding("running", False, False, f"no node runs on {places.runtime_dir}", remedy)
        return
    try:
        snapshot = msgspec.convert(Client(places.runtime_dir).request("status"), Snapshot)
    except (HacoreError, msgspec.ValidationError) as error:
        yield Finding("running", False, True, str(error), "look at its log (journalctl -u hacore) and restart it")
        return
    node = snapshot.node
    yield Finding("running", True, True, f"{node.name}, hacore {node.version}, pid {node.pid}")
    fault = Seen(snapshot, time.time()).fault
    if fault:
        yield Finding("election", False, True, fault, "look at `hacore events` and its log (journalctl -u hacore)")
    else:
        states = ", ".join(f"{vip.name} {vip.state}" for vip in snapshot.vips)
        yield Finding("election", True, True, states or "no VIPs")
    if not node.realtime.obtained:
        yield Finding("real time", False, False, node.realtime.problem or "not obtained")
    if not node.carp_enabled:
        yield Finding("carp", False, False, "disabled: this node holds no address", "hacore carp enable")
    for name, value in sorted(node.demotion.reasons.items()):
        yield Finding("demotion", False, False, f"{name} {value}")
    for warning in node.warnings:
        if warning != node.realtime.problem:
            yield Finding("warning", False, False, warning)
