"""`hacore bench sync`: how connections get from one kernel to another, by hacore, by conntrackd, and by a bare injector
as the physical limit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from hacore.bench import bulk, steady
from hacore.bench.load import EACH_LASTING
from hacore.bench.record import Record
from hacore.bench.replicators import MAX_STATES, Replicator, Site, replicators, site
from hacore.bench.result import Scalar
from hacore.bench.room import room_for
from hacore.bench.running import Part, Running, Told
from hacore.errors import PrivilegeError
from hacore.lab import rights

PARTS = ("bulk", "steady", "highest", "churn")
PEERS = ("conntrackd",)
MOST = MAX_STATES
"""Connections that a load may have: what the tables of all subjects take."""

NOTES = (
    "One kernel plays both nodes, with one lock for all changes of their tables. Compare ratios, not rates.",
    "While anybody listens in one namespace the kernel builds events in all of them.",
    (
        "Bulk updates are of a realistic table, the same for all: TCP, UDP and SCTP, IPv4 and IPv6, source NAT, "
        "zones; no GRE, whose keys conntrackd does not send."
    ),
    (
        "Bulk updates begin where the receiver asks for everything, its program running: with hacore where its "
        "stream stands and it says that it has nothing, with conntrackd where `conntrackd -n` is called."
    ),
    (
        "During bulk updates of hacore and of the bare injector nobody listens, for neither node is MASTER; "
        "conntrackd cannot be told not to, and both its daemons listen. On two machines conntrackd's receiver "
        "listens to its own kernel all the same; hacore's does not, and its sender's listening costs it nothing "
        "there."
    ),
    "The bare injector of everything else works while the sender listens.",
    (
        "conntrackd: FTFW over UDP, caches for 4,194,304 states, socket buffers of 64 MB, an event buffer of 256 "
        "MB from the start, as hacore has it, and a resynchronization where it overflows, as is its default."
    ),
    "Steady loads are packets through the sender's forwarding path, a datagram a flow; churn is made by an injector.",
    f"Of the churn one connection in {EACH_LASTING} stays established; the receiver has to have these, and no others.",
)


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What is measured: sizes of bulk updates in states, rates in flows a second, seconds of each load."""

    parts: tuple[str, ...] = PARTS
    states: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    rates: tuple[int, ...] = (1_000, 10_000, 30_000)
    first_rate: int = 20_000
    churn_rates: tuple[int, ...] = (5_000,)
    duration: float = 5.0
    repeat: int = 5
    without: tuple[str, ...] = ()

    @property
    def most(self) -> int:
        """Entries that one kernel has at once, of both namespaces."""
        flows = [rate * self.duration for rate in self.rates] if "steady" in self.parts else []
        at_once = [*(self.states if "bulk" in self.parts else ()), *flows]
        if "highest" in self.parts:
            at_once.append(min(steady.HIGHEST * self.duration, MOST))
        return round(2 * max(at_once, default=0)) + 200_000

    def problem(self) -> str:
        """Why it cannot be measured; "" where it can."""
        for rate in (*self.rates, *self.churn_rates, self.first_rate):
            if rate * self.duration > MOST:
                return f"{rate:,} flows a second for {self.duration:g} s are more than {MOST:,} connections"
        over = next((states for states in self.states if states > MOST), 0)
        return f"{over:,} states are more than {MOST:,} connections" if over else ""


QUICK = Options(
    states=(10_000, 100_000), rates=(1_000, 10_000), churn_rates=(2_000,), duration=2.0, repeat=1, first_rate=30_000
)


def with_options(defaults: Options, given: Mapping[str, Any]) -> Options:
    """`defaults` with some fields replaced."""
    return msgspec.structs.replace(defaults, **given)


def measure(options: Options, directory: Path, running: Running, record: Record, tell: Told) -> None:
    """The whole run, in a lab in `directory`; `record` is what `running` takes samples into.

    Raises:
        PrivilegeError: not root.
        HacoreError: the lab cannot be built, a node of it does not do what it should.
    """
    if rights.available() != rights.ROOT:
        raise PrivilegeError(
            "hacore bench sync fills the kernel's tables, whose size only root may set: run it as root"
        )
    running.notes += NOTES
    with room_for(options.most), site(directory) as where:
        running.carry_out(list(_parts(options, where, replicators(where, options.without), record)), tell)


def settings(options: Options) -> dict[str, Scalar | list[Scalar]]:
    """The options as a result has them."""
    found: dict[str, Scalar | list[Scalar]] = {}
    for name, value in msgspec.structs.asdict(options).items():
        if name != "without":
            found[name] = list(value) if isinstance(value, tuple) else value
    return found


def _parts(options: Options, where: Site, everybody: list[Replicator], record: Record) -> Iterator[Part]:
    """Every measurement, subjects by turns."""
    if "bulk" in options.parts:
        for states in options.states:
            yield Part(
                f"bulk update of {states:,} states",
                lambda _say, states=states: bulk.measure(where, states, options.repeat, everybody, record),  # type: ignore[misc]
            )
    flows = max(options.rates) * options.duration if "steady" in options.parts else 0
    if flows:
        yield Part("the kernel takes memory", lambda _say: bulk.warm(where, round(flows)))
    for number in range(options.repeat):
        of = f", {number + 1} of {options.repeat}"
        if "steady" in options.parts:
            for rate in options.rates:
                yield Part(
                    f"{rate:,} new flows a second{of}",
                    lambda _say, rate=rate: steady.steady(everybody, rate, options.duration, record),  # type: ignore[misc]
                )
        for replicator in everybody:
            if "churn" in options.parts:
                for rate in options.churn_rates:
                    yield Part(
                        f"churn of {rate:,} flows a second: {replicator.name}{of}",
                        lambda _say, one=replicator, rate=rate: steady.churn(one, rate, options.duration, record),  # type: ignore[misc]
                    )
            if "highest" in options.parts:
                yield Part(
                    f"the highest loss-free rate: {replicator.name}{of}",
                    lambda _say, one=replicator: steady.highest(
                        one, options.first_rate, MOST, options.duration, record
                    ),  # type: ignore[misc]
                )
