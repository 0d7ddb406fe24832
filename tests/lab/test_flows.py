"""Connections through the lab: all live on where the nodes replicate, and all die where they do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from hacore.errors import HacoreError
from hacore.lab import laboratory, namespaces, play
from hacore.lab.fill import fill
from hacore.lab.flows import FlowFigures, KindFigures
from hacore.lab.scenarios import SCENARIOS
from hacore.linux import conntrack


def figures(replicated: bool, **alive: int) -> FlowFigures:
    return FlowFigures(replicated, {name: KindFigures(10, count) for name, count in alive.items()})


def test_what_is_expected_of_flows() -> None:
    assert figures(True, tcp=10, udp=10).as_expected
    assert not figures(True, tcp=10, udp=9).as_expected
    assert figures(False, tcp=0, udp=0).as_expected
    assert not figures(False, tcp=1, udp=0).as_expected
    for kind in ("tcp6", "icmp", "ftp control", "ftp data"):
        assert not figures(False, tcp=0, udp=0, **{kind: 1}).as_expected


@pytest.mark.parametrize("replicated", [True, False], ids=["replicated", "alone"])
def test_connections_through_a_crash(tmp_path: Path, replicated: bool) -> None:
    with laboratory.temporary(tmp_path / "flows", profile="fast", preempt=True, states=replicated) as lab:
        run = play.play(lab, SCENARIOS["crash"], flows=30)
        assert run.error is None
        assert run.flows is not None
        assert {name: kind.total for name, kind in run.flows.kinds.items()} == {
            "tcp": 30, "tcp6": 10, "udp": 10, "icmp": 10, "ftp control": 1, "ftp data": 1
        }  # fmt: skip
        assert run.flows.replicated is replicated
        assert run.flows.as_expected, str(run.flows)
        assert run.failed_over


def test_tables_that_are_filled_first(tmp_path: Path) -> None:
    with laboratory.temporary(tmp_path / "full", profile="fast", preempt=True, states=True) as lab:
        run = play.play(lab, SCENARIOS["stop"], fill=20_000)
        assert run.error is None
        assert run.failed_over
        for node in lab.nodes.values():
            with namespaces.inside(node.namespace):
                assert conntrack.count() >= 20_000
        with pytest.raises(HacoreError, match="nf_conntrack_max"):
            fill(lab, lab.nodes["fw1"], 1 << 30)
