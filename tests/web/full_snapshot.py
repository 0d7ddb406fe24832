"""A snapshot in which everything that can be there is there."""

from __future__ import annotations

from hacore.carp.counters import Counters
from hacore.node.control_snapshot import ControlStatus, PushCount, SectionApplied
from hacore.node.snapshot import (
    CertificateStatus,
    CheckStatus,
    Demotion,
    Master,
    NodeStatus,
    PeerHeard,
    Realtime,
    Snapshot,
    VipStatus,
    Worker,
)
from hacore.node.states_snapshot import KernelStates, PeerStates, StatesStatus, StreamStatus, TableStates
from hacore.services.service import Report, State

NOW = 1_800_000_000.0


def full_snapshot(now: float = NOW) -> Snapshot:
    """fw1, MASTER of `lan` and BACKUP of `wan`, with a check that fails."""
    lan = VipStatus(
        name="lan", interface="eth1", vhid=1, state="MASTER", since=now - 4000, reason="master timed out", advbase=1,
        advskew=0, effective_advskew=240, addresses=["192.0.2.1/24", "2001:db8::1/64"],
        counters=Counters(ipackets=3, opackets=4000, badauth=7, ostates=3), failovers=2,
    )  # fmt: skip
    wan = VipStatus(
        name="wan", interface="eth2", vhid=2, state="BACKUP", since=now - 60, reason="initialization complete",
        advbase=1, advskew=0, effective_advskew=240, addresses=["198.51.100.1/24"], counters=Counters(ipackets=60),
        master=Master(source="198.51.100.2", advbase=1, advskew=100, heard=now - 0.5),
    )  # fmt: skip
    node = NodeStatus(
        name="fw1", version="0.1.0", pid=42, started=now - 90_000, generated=now, reported=now - 0.002,
        demotion=Demotion(total=240, reasons={"check upstream": 240}),
        peers=[PeerHeard(interface="eth2", source="198.51.100.2", vhids=[2], heard=now - 0.5)],
        counters=Counters(badvhid=2), realtime=Realtime(obtained=True), warnings=["eth1: no IPv6"],
        workers={name: Worker(state="running", pid=43, restarts=1) for name in ("election", "states", "control")},
        checks=[
            CheckStatus(
                name="upstream", state="down", since=now - 60, ran=now - 1, finding="exit code 1", demotion=240,
                runs=9, duration=0.01,
            )
        ],
        certificates=[CertificateStatus(name="fw2", own=False, fingerprint="00", expires=now + 90 * 86400)],
    )  # fmt: skip
    states = StatesStatus(
        node="fw1", generated=now - 0.1, started=now - 90_000, epoch=3, master_of=["lan"],
        peers=[
            PeerStates(
                name="fw2", address="10.0.0.2:8118", rows=100,
                sending=StreamStatus(
                    phase="stream", since=now - 4000, position=90_000, acknowledged=89_990, lag_states=10, lag=0.004,
                    sent_bytes=4 << 20, bulk_rows=1000, bulk_total=1000,
                ),
                receiving=StreamStatus(phase="down", since=now - 60, reason="connection refused"),
            )
        ],
        table=TableStates(
            rows=1100, own=1000, max_states=1 << 20, memory_bytes=3 << 20, not_fitted=0,
            protocols={"tcp": 900, "udp": 200},
        ),
        kernel=KernelStates(
            entries=1200, limit=1 << 18, listening=True, events=90_000, lost=1, injected={"new": 100, "messages": 5},
            errors={"ENOMEM": 1}, checks=4, checked=now - 20, missing=3, differing=2, unfitted=1,
        ),
    )  # fmt: skip
    control = ControlStatus(
        generated=now,
        pushes=[PushCount(peer="fw2", direction="to", result="applied", count=3, last=now - 600)],
        sections=[SectionApplied(id="firewall", revision=7, applied_at=now - 600, by="fw2")],
        services=[
            Report(id="squid", description="Web proxy", unit="squid.service", state=State.RUNNING, since=now - 4000),
            Report(id="dhcp", state=State.FAILED, since=now - 5, detail="failed: exit-code", log=["cannot bind"]),
        ],
        services_seen=now - 1,
    )
    return Snapshot(node=node, vips=[lan, wan], states=states, control=control)
