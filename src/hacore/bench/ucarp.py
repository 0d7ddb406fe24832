"""ucarp as a node: one daemon for each VIP, which adds and takes away its addresses by scripts, as its documentation
shows. advbase 1 s and advskew 0 and 1 are its shortest intervals; it cannot replicate connections, and its daemons know
nothing of each other. Debian package: ucarp.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from hacore.bench.machine import program
from hacore.bench.peer import Pace, PeerNode
from hacore.lab import nodes, topology

ADVSKEWS = (0, 1)


class UcarpNode(PeerNode):
    """One firewall under ucarp."""

    profiles: ClassVar[dict[str, nodes.Intervals]] = {"1": Pace(1 + max(ADVSKEWS) / 256, 3 * (1 + max(ADVSKEWS) / 256))}
    worker: ClassVar[str] = "ucarp"

    def configure(
        self,
        profile: str,
        preempt: bool,
        password: str,
        vips: Sequence[topology.Vip],
        *,
        states: bool = False,  # noqa: ARG002 - it shares none
    ) -> None:
        """Write the scripts of each daemon."""
        directory = self.make_directory(password)
        number = topology.NODES.index(self.name)
        commands = []
        for vip in vips:
            scripts = []
            for word, verb in (("up", "replace"), ("down", "del")):
                script = directory / f"{vip.name}-{word}.sh"
                lines = [f"ip address {verb} {address} dev {vip.interface}" for address in vip.addresses]
                script.write_text("\n".join(["#!/bin/sh", *lines]) + "\n", encoding="utf-8")
                script.chmod(0o755)
                scripts.append(f"--{word}script={script}")
            commands.append(
                f"{program('ucarp')} --interface={vip.interface} --srcip={_own_address(self.name, vip.interface)} "
                f"--vhid={vip.vhid} --passfile={directory / 'carp.key'} --addr={vip.addresses[0].split('/')[0]} "
                f"--advbase={profile} --advskew={ADVSKEWS[number]} {' '.join(scripts)} --shutdown"
                + (" --preempt" if preempt else "")
            )
        self.write_launcher(commands)


def _own_address(node: str, interface: str) -> str:
    cable = next(cable for cable in topology.CABLES if (cable.role, cable.interface) == (node, interface))
    return cable.addresses[0].split("/")[0]
