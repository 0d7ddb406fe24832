"""Where a scenario plays: it knows who is MASTER, waits until the pair has settled, and cuts the recording into
phases.
"""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections.abc import Callable, Iterator

import msgspec

from hacore.errors import HacoreError
from hacore.lab import capture, faults, figures, timeline, topology
from hacore.lab.figures import ProbeFigures
from hacore.lab.laboratory import Lab
from hacore.lab.nodes import Node
from hacore.lab.observers import Observations, Recording

_TICK = 0.02
_ALIVE = 0.1
_PATIENCE = 15.0


class Unsettled(HacoreError):
    """The pair did not come to the state that the scenario needs."""


class PhaseFigures(msgspec.Struct, kw_only=True):
    """What one phase cost. Times in seconds.

    moved: the other node took all virtual addresses; must_move: that is what the phase is about; takeover: how long
    until it had them. both_held: both kernels had the same address; both_held_alive: and both nodes' processes ran;
    both_forwarded: both nodes sent probe datagrams on; both_advertised: both sent adverts. dead_forwarded, dead_held:
    how long a node that was killed or frozen here still sent datagrams on and still had an address; None where none
    was. holders, states: before and after, by node: addresses in the kernel, and the state of each VIP as the node
    tells it. timeline: what was seen from outside, events: what the nodes wrote into their histories; both in seconds
    since the phase began.
    """

    name: str
    length: float
    probe: ProbeFigures
    must_move: bool
    moved: bool
    takeover: float | None
    both_held: float
    both_held_alive: float
    both_forwarded: float
    both_advertised: float
    dead_forwarded: float | None
    dead_held: float | None
    holders_before: dict[str, list[str]]
    holders_after: dict[str, list[str]]
    states_after: dict[str, dict[str, str]]
    timeline: list[tuple[float, str]]
    events: list[tuple[float, str]]


class _Phase(msgspec.Struct):
    name: str
    must_move: bool
    began: float
    holder: str | None
    holders_before: dict[str, list[str]]
    ended: float = 0.0
    holders_after: dict[str, list[str]] = {}
    states_after: dict[str, dict[str, str]] = {}


class Stage:
    """One play of one scenario in `lab`, seen through `recording`."""

    def __init__(self, lab: Lab, recording: Recording) -> None:
        self.lab = lab
        self.recording = recording
        self.after_move: Callable[[], object] = lambda: None
        """Called at the end of each phase that is about a failover, while the other node is MASTER."""
        self._phases: list[_Phase] = []
        self._dead: dict[str, list[list[float]]] = {name: [] for name in lab.nodes}
        self._all = set(topology.vip_addresses())
        self._quiet = max(0.5, 0.5 * lab.intervals.dead_time)

    def holder(self) -> str | None:
        """The node that holds every virtual address while the other holds none; None where it is not so."""
        held = self.recording.held
        for name in held:
            if held[name] == self._all and not any(held[peer] for peer in held if peer != name):
                return name
        return None

    def master(self) -> Node:
        """The node that holds the addresses now. Unsettled where not exactly one does."""
        name = self.holder()
        if name is None:
            raise Unsettled(f"not exactly one node holds the addresses: {self._held()}")
        return self.lab.nodes[name]

    def expected_after_return(self, master: Node) -> Node:
        """Who has the addresses once `master`, which lost them, is well again."""
        return self.lab.preferred if self.lab.record.preempt else self.lab.other(master)

    def ports(self, node: Node) -> tuple[str, ...]:
        """The bridge ports of `node`."""
        return topology.ports_of(node.name)

    def wait(self, seconds: float) -> None:
        """Let time pass while the recording is taken in."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(_TICK, left))
            self.recording.poll()

    def settle(self, expected: Node | None = None, patience: float | None = None) -> None:
        """Wait until one node (`expected`) holds all addresses alone, replies flow and nothing has changed for a
        while.

        Unsettled after `patience`.
        """
        deadline = time.monotonic() + (patience or _PATIENCE + 4 * self.lab.intervals.dead_time)
        calm_since: float | None = None
        while True:
            self.wait(_TICK)
            now = time.monotonic()
            holder = self.holder()
            calm = (
                holder is not None
                and (expected is None or holder == expected.name)
                and now - self.recording.last_reply < _ALIVE
            )
            calm_since = (calm_since or now) if calm else None
            if calm_since is not None and now - calm_since >= self._quiet:
                return
            if now > deadline:
                wanted = f"{expected.name} to hold" if expected else "one node to hold"
                silence = now - self.recording.last_reply
                raise Unsettled(f"waited for {wanted} all addresses: {self._held()}; last reply {silence:.1f} s ago")

    def observe(self, least: float) -> None:
        """Watch for `least` seconds, and on until the other node has taken all addresses or will not."""
        before = self._phases[-1].holder
        self.wait(least)
        deadline = time.monotonic() + 3 * self.lab.intervals.dead_time
        while time.monotonic() < deadline:
            if any(name != before and held == self._all for name, held in self.recording.held.items()):
                break
            self.wait(_TICK)
        self.wait(self._quiet)

    def struck(self, moment: float) -> None:
        """The deed of this phase began at `moment`, from which its times are counted."""
        self._phases[-1].began = moment

    def terminate(self, node: Node) -> None:
        """SIGTERM to the supervisor of `node` alone."""
        if node.supervisor is not None:
            self.struck(time.monotonic())
            faults.signal_all([node.supervisor.pid], signal.SIGTERM)

    def boot(self, node: Node) -> None:
        """Start `node` again and wait until the pair has settled."""
        deadline = time.monotonic() + _PATIENCE
        while node.running():
            if time.monotonic() > deadline:
                raise Unsettled(f"{node.name} did not end")
            self.wait(_TICK)
        if self._is_dead(node):
            self.mark_alive(node, time.monotonic())
        self.lab.start(node)
        self.settle(self.expected_after_return(node))

    def mark_dead(self, node: Node, moment: float) -> None:
        """The processes of `node` do not run from `moment` on, which is when this phase began."""
        self.struck(moment)
        self._dead[node.name].append([moment])

    def mark_alive(self, node: Node, moment: float) -> None:
        """They run again since `moment`."""
        self._dead[node.name][-1].append(moment)

    def _is_dead(self, node: Node) -> bool:
        """Whether its processes were killed or frozen here: it would not answer, and asking it takes seconds."""
        return bool(self._dead[node.name]) and len(self._dead[node.name][-1]) == 1

    @contextlib.contextmanager
    def phase(self, name: str, *, must_move: bool = False) -> Iterator[None]:
        """Everything inside is one phase; it begins at no particular point between two adverts."""
        self.wait(random.random() * self.lab.intervals.interval)
        phase = _Phase(name, must_move, time.monotonic(), self.holder(), self._held())
        self._phases.append(phase)
        try:
            yield
            if must_move:
                self.after_move()
        finally:
            self.recording.poll()
            phase.ended = time.monotonic()
            phase.holders_after = self._held()
            phase.states_after = {
                node.name: {} if self._is_dead(node) else node.states() for node in self.lab.nodes.values()
            }

    def _held(self) -> dict[str, list[str]]:
        return {name: sorted(held) for name, held in self.recording.held.items()}

    def results(self) -> list[PhaseFigures]:
        """The figures of all phases; the recording goes on a moment first, for replies that are still under way."""
        self.wait(2 * _ALIVE)
        seen = self.recording.observations()
        return [self._figures(phase, seen) for phase in self._phases]

    def _figures(self, phase: _Phase, seen: Observations) -> PhaseFigures:
        start, end = phase.began, phase.ended
        dead = {
            name: [(part[0], part[1] if len(part) > 1 else seen.end) for part in parts]
            for name, parts in self._dead.items()
        }
        one, two = topology.NODES
        held = {
            name: {address: figures.held_spans(seen.changes, name, address, seen.end) for address in self._all}
            for name in (one, two)
        }
        alive = {
            name: {address: figures.without(spans, dead[name]) for address, spans in held[name].items()}
            for name in held
        }
        forwarded = {name: figures.sent_by(seen, name, capture.PROBE) for name in (one, two)}
        advertised = {name: figures.sent_by(seen, name, capture.ADVERT) for name in (one, two)}
        join = 3 * self.lab.intervals.interval
        takeover = self._takeover(phase, seen)
        gone = next(((name, away) for name in dead for away, _ in dead[name] if start <= away < end), None)
        return PhaseFigures(
            name=phase.name,
            length=end - start,
            probe=figures.probe_figures(seen.client, start, end),
            must_move=phase.must_move,
            moved=takeover is not None,
            takeover=takeover,
            both_held=max(figures.overlap(held[one][address], held[two][address], start, end) for address in self._all),
            both_held_alive=max(
                figures.overlap(alive[one][address], alive[two][address], start, end) for address in self._all
            ),
            both_forwarded=figures.overlap(
                figures.spans(forwarded[one], figures.JOIN), figures.spans(forwarded[two], figures.JOIN), start, end
            ),
            both_advertised=figures.overlap(
                figures.spans(advertised[one], join), figures.spans(advertised[two], join), start, end
            ),
            dead_forwarded=figures.last_after(forwarded[gone[0]], gone[1], end) if gone else None,
            dead_held=self._held_until(held[gone[0]], gone[1], end) if gone else None,
            holders_before=phase.holders_before,
            holders_after=phase.holders_after,
            states_after=phase.states_after,
            timeline=timeline.of(seen, start, end),
            events=timeline.told(self.lab.nodes.values(), start, end),
        )

    def _takeover(self, phase: _Phase, seen: Observations) -> float | None:
        """Seconds until a node other than the holder at the start had every address; None where none did."""
        for name in topology.NODES:
            if name == phase.holder:
                continue
            has: set[str] = set()
            for change in seen.changes:
                if change.node != name or change.time >= phase.ended:
                    continue
                (has.add if change.held else has.discard)(change.address)
                if change.time >= phase.began and has == self._all:
                    return change.time - phase.began
        return None

    @staticmethod
    def _held_until(spans: dict[str, figures.Times], since: float, end: float) -> float:
        finishes = [
            min(float(finish), end)
            for parts in spans.values()
            for begin, finish in parts
            if begin < end and finish > since
        ]
        return max((finish - since for finish in finishes), default=0.0)
