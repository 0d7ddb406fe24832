"""Pairs on a simulated segment, at the intervals of classic CARP and at the shortest ones."""

from __future__ import annotations

import pytest

from tests.carp.simulation import Network, Node, settings

CLASSIC = ((1, 0), (1, 100))
FAST = ((0, 1), (0, 2))
PROFILES = pytest.mark.parametrize("profile", [CLASSIC, FAST], ids=["classic", "fast"])
PREEMPT = pytest.mark.parametrize("preempt", [True, False], ids=["preempt", "no-preempt"])


def pair(
    network: Network, profile: tuple[tuple[int, int], ...], *, preempt: bool = True, family: int = 4
) -> list[Node]:
    return [
        network.add(
            *(
                settings(vhid, interface=interface, advbase=advbase, advskew=advskew, family=family)
                for vhid, interface in ((1, "lan"), (2, "wan"))
            ),
            preempt=preempt,
        )
        for advbase, advskew in profile
    ]  # fmt: skip


def settle(network: Network, seconds: float = 10.0) -> None:
    network.run(network.now + seconds)
