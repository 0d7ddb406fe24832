"""keepalived as a node, with conntrackd where the pair replicates connections, as its documentation sets them up: VRRP
version 3, an instance for each VIP in one group, and the transition script that conntrackd comes with.

It gets what speaks for it: locked memory, real time without the limit of 10 ms after which the kernel would kill it (as
it does with very many instances), and priorities next to each other, so that the backup's skew is about a hundredth of
an interval. Debian packages: keepalived, conntrackd.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from hacore.bench import conntrackd
from hacore.bench.machine import MissingProgram, program
from hacore.bench.peer import Pace, PeerNode
from hacore.lab import nodes, topology

HOOK = Path("/usr/share/doc/conntrackd/examples/sync/primary-backup.sh")
HOOKS = (HOOK, HOOK.with_name(f"{HOOK.name}.gz"))

INTERVALS = ("1", "0.1", "0.01")
PRIORITIES = (254, 253)

_GLOBAL = """
global_defs {{
    router_id {name}
    vrrp_version 3
    script_user root
    vrrp_rt_priority 50
    vrrp_rlimit_rttime 10000000
    vrrp_no_swap
}}
track_file maintenance {{
    file "{directory}/maintenance"
    weight 1
    init_file 0 overwrite
}}
"""
_INSTANCE = """
vrrp_instance {name} {{
    state BACKUP
    interface {interface}
    virtual_router_id {vhid}
    priority {priority}
    advert_int {interval}
{more}
    virtual_ipaddress {{
        {four} dev {interface}
    }}
    virtual_ipaddress_excluded {{
{six}
    }}
}}
"""


def hook_text() -> str:
    """The transition script of the package conntrackd. MissingProgram where the installation left it out."""
    for path in HOOKS:
        if path.exists():
            read = path.read_bytes()
            return (gzip.decompress(read) if path.suffix == ".gz" else read).decode()
    raise MissingProgram(f"{HOOK} is missing: apt-get install --reinstall conntrackd, with its documentation")


class KeepalivedNode(PeerNode):
    """One firewall under keepalived. Its profiles are its advertisement intervals."""

    profiles: ClassVar[dict[str, nodes.Intervals]] = {
        text: Pace(float(text), 3 * float(text) * 1.01) for text in INTERVALS
    }
    worker = "keepalived"

    _states = False

    def configure(
        self, profile: str, preempt: bool, password: str, vips: Sequence[topology.Vip], *, states: bool = False
    ) -> None:
        """Write keepalived.conf and, with `states`, conntrackd.conf and the transition script."""
        directory = self.make_directory(password)
        self._states = states
        number = topology.NODES.index(self.name)
        text = _GLOBAL.format(name=self.name, directory=directory)
        pair = tuple(vips) == topology.gateways()
        more = [] if preempt else ["nopreempt"]
        # The two gateways move together; a group of a thousand would be nobody's choice.
        more += ["track_file {", "    maintenance", "}"] if pair else []
        for vip in vips:
            four, *six = vip.addresses
            text += _INSTANCE.format(
                name=vip.name,
                interface=vip.interface,
                vhid=vip.vhid,
                priority=PRIORITIES[number],
                interval=profile,
                more="\n".join(f"    {line}" for line in more),
                four=four,
                six="\n".join(f"        {address} dev {vip.interface}" for address in six),
            )
        notify = self._write_replication(number) if states else []
        if pair:
            text += "\n".join(["vrrp_sync_group all {", "    group { lan wan }", *notify, "}"]) + "\n"
        (directory / "keepalived.conf").write_text(text, encoding="utf-8")
        self._write_launcher()

    def _write_replication(self, number: int) -> list[str]:
        conf = self.directory / "conntrackd.conf"
        at = self.directory / "conntrackd"
        at.mkdir(exist_ok=True)
        own, other = f"10.9.0.{number + 1}", f"10.9.0.{2 - number}"
        conf.write_text(conntrackd.configuration(at, own, other, "sync"), encoding="utf-8")
        hook = self.directory / "primary-backup.sh"
        text = hook_text()
        for variable, value in (
            ("CONNTRACKD_BIN", program("conntrackd")),
            ("CONNTRACKD_LOCK", at / "lock"),
            ("CONNTRACKD_CONFIG", conf),
        ):
            text = re.sub(rf"^{variable}=.*$", f"{variable}={value}", text, flags=re.MULTILINE)
        hook.write_text(text, encoding="utf-8")
        hook.chmod(0o755)
        told = {"master": "primary", "backup": "backup", "fault": "fault"}
        return [f'    notify_{state} "{hook} {word}"' for state, word in told.items()]

    def _write_launcher(self) -> None:
        at = self.directory
        pids = " ".join(f"-{letter} {at}/{name}.pid" for letter, name in (("p", "parent"), ("r", "vrrp")))
        before = [f"rm -f {at}/parent.pid {at}/vrrp.pid"]
        after = []
        if self._states:
            command = f"{program('conntrackd')} -C {at}/conntrackd.conf"
            before += [f"rm -f {at}/conntrackd/lock {at}/conntrackd/control", f"{command} &"]
            before += [f"until [ -S {at}/conntrackd/control ]; do sleep 0.02; done"]
            after = [f"{command} -k"]
        run = f"{program('keepalived')} --vrrp --dont-fork --log-console --use-file {at}/keepalived.conf {pids}"
        self.write_launcher([run], before=before, after=after)

    def _cached(self, which: str) -> int | None:
        answer = conntrackd.ask(self.namespace, self.directory / "conntrackd.conf", "-s")
        return conntrackd.cached(answer, which)

    def replicates(self) -> bool:
        """Whether conntrackd answers, and hears the other one."""
        return not self._states or self._cached("internal") is not None

    def replicated_count(self) -> int:
        """How many connections conntrackd has from the other node, which the kernel gets at a takeover."""
        return self._cached("external") or 0

    def maintenance(self, enter: bool) -> None:
        """By its tracked file: a value of -254 is a fault of the whole group, told to the other node at once."""
        (self.directory / "maintenance").write_text("-254\n" if enter else "0\n", encoding="ascii")
