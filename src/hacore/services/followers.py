"""Services that follow a VIP: started on the node that holds it, stopped on the others.

The machine knows what is wanted (from the roles), what was last seen (from looks) and what is under way, and orders the
next step until both agree. Of each VIP one order is under way at a time: starts in the order of the settings, stops in
the reverse. Every change of a role raises the epoch, and an order belongs to the epoch it was given in: before the next
one on the same service goes out, its end is waited for (a start that is no longer wanted is interrupted), so that a
stop that is late cannot overtake a newer start. What fails is tried again, less and less often; the others are not held
up by it.

    roles(...), observed(...), finished(...)        what happened
    orders(), events()                              what is to be done, what is to be told
    next_deadline(), handle_deadline(now)           looks and retries
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Literal

from msgspec import Struct

FIRST_RETRY = 1.0
LAST_RETRY = 60.0
#: Between two looks at a service with which nothing happens.
LOOK_INTERVAL = 5.0
#: A service that ran so long after its start is well: its failures are forgotten.
SETTLED = 60.0

Step = Literal["look", "start", "stop", "interrupt"]


class Order(Struct, frozen=True, kw_only=True):
    """To be carried out, and answered: `look` by `observed`, `start` and `stop` by `finished`.

    `interrupt` asks to end a start early, and is not answered itself.
    """

    service: str
    step: Step
    epoch: int


class FollowerEvent(Struct, frozen=True, kw_only=True):
    """For the history of the node."""

    service: str
    text: str


class Standing(Struct, frozen=True, kw_only=True):
    """How a follower stands; `wanted` is None before the roles are known, `retry_at` 0.0 where none is due."""

    vip: str
    wanted: bool | None
    problem: str
    failures: int
    retry_at: float


class _Follower:
    __slots__ = (
        "busy",
        "failures",
        "interrupted",
        "look_at",
        "problem",
        "retry_at",
        "runs",
        "service",
        "started",
        "vip",
    )

    def __init__(self, service: str, vip: str) -> None:
        self.service = service
        self.vip = vip
        self.runs: bool | None = None  # None: look first
        self.busy: Order | None = None
        self.interrupted = False
        self.failures = 0
        self.problem = ""
        self.retry_at = 0.0
        self.look_at = 0.0
        self.started = 0.0


class Followers:
    """All followers of one node. Times are seconds of one clock, chosen by the caller."""

    def __init__(self) -> None:
        self._followers: dict[str, _Follower] = {}
        self._held: frozenset[str] | None = None
        self._epoch = 0
        self._orders: list[Order] = []
        self._events: list[FollowerEvent] = []
        self._leaving = False

    @property
    def epoch(self) -> int:
        """Raised by each change of what is wanted."""
        return self._epoch

    def load(self, followers: Iterable[tuple[str, str]], now: float) -> None:
        """Takes (service, VIP) of all, in the order of the settings.

        One that is no longer among them is left as it is, once what is under way with it has ended.
        """
        before, self._followers = self._followers, {}
        for service, vip in followers:
            known = before.get(service)
            if known is None:
                known = _Follower(service, vip)
            known.vip = vip
            self._followers[service] = known
        self._orders = [order for order in self._orders if order.service in self._followers]
        self._decide(now)

    def roles(self, held: Collection[str], now: float) -> None:
        """This node is MASTER of these VIPs, and of no other."""
        new = frozenset(held)
        if self._held is None or new != self._held:
            self._epoch += 1
            changed = new if self._held is None else new ^ self._held
            for follower in self._followers.values():
                if follower.vip in changed:
                    self._forget_failures(follower)
            self._held = new
        self._decide(now)

    def leave(self, now: float) -> None:
        """The node ends: everything stops, whatever is held; `is_gone` tells when."""
        self._leaving = True
        self._epoch += 1
        for follower in self._followers.values():
            self._forget_failures(follower)
        self._decide(now)

    @property
    def is_gone(self) -> bool:
        """After `leave`: whether each was seen stopped, or would not be stopped."""
        return all(
            follower.busy is None and (follower.runs is False or follower.failures > 0)
            for follower in self._followers.values()
        )

    def wanted(self, service: str) -> bool | None:
        """Whether it is to run here; None before the roles are known."""
        follower = self._followers[service]
        if self._leaving:
            return False
        return None if self._held is None else follower.vip in self._held

    def standing(self, service: str) -> Standing | None:
        """None for a service that follows nothing."""
        follower = self._followers.get(service)
        if follower is None:
            return None
        return Standing(
            vip=follower.vip,
            wanted=self.wanted(service),
            problem=follower.problem,
            failures=follower.failures,
            retry_at=follower.retry_at,
        )

    def observed(self, service: str, runs: bool | None, detail: str, now: float) -> None:
        """The answer to a look; `runs` is None where the service could not be asked, and `detail` says why."""
        follower = self._followers.get(service)
        if follower is None:
            return
        if follower.busy is not None and follower.busy.step == "look":
            follower.busy = None
        if follower.busy is not None:
            return  # what is under way tells more
        follower.look_at = now + LOOK_INTERVAL
        if runs is None:
            self._failed(follower, f"cannot be asked how it is: {detail}", now)
        elif runs and now - follower.started > SETTLED:
            self._forget_failures(follower)
        elif follower.runs and not runs and self.wanted(service):
            self._failed(follower, f"ended by itself ({detail})", now)
        follower.runs = runs
        self._decide(now)

    def finished(self, order: Order, problem: str, now: float) -> None:
        """A start or a stop has ended; `problem` is empty where it did what it should."""
        follower = self._followers.get(order.service)
        if follower is None or follower.busy != order:
            return
        interrupted = follower.interrupted
        follower.busy, follower.interrupted = None, False
        wanted = self.wanted(order.service)
        self_made = order.step == "start"
        if problem:
            follower.runs = None
            # A start that nobody wants any more did not fail; it was ended.
            if wanted == self_made and not interrupted:
                self._failed(follower, f"did not {order.step}: {problem}", now)
        else:
            follower.runs = self_made
            follower.look_at = now + LOOK_INTERVAL
            if self_made:
                follower.started = now
            if not follower.failures or not self_made:
                self._forget_failures(follower)
            follower.problem = ""
            done = "started" if self_made else "stopped"
            why = f"this node holds {follower.vip}" if self_made else f"this node does not hold {follower.vip}"
            self._tell(follower, f"{done}: {'the node ends' if self._leaving else why}")
        self._decide(now)

    def touched(self, service: str, now: float) -> None:
        """Somebody else did something with it: look anew."""
        follower = self._followers.get(service)
        if follower is not None and follower.busy is None:
            follower.runs = None
            self._decide(now)

    def next_deadline(self) -> float | None:
        """When `handle_deadline` is to be called, at the latest."""
        if self._held is None and not self._leaving:
            return None
        times = []
        busy = {follower.vip for follower in self._followers.values() if follower.busy is not None}
        for follower in self._followers.values():
            if follower.vip not in busy:  # else the end of what is under way comes first
                agrees = follower.runs is not None and follower.runs == self.wanted(follower.service)
                times.append(max(follower.look_at, follower.retry_at) if agrees else follower.retry_at)
        return min(times, default=None)

    def handle_deadline(self, now: float) -> None:
        """Looks that are due."""
        self._decide(now)

    def orders(self) -> list[Order]:
        """What is to be done now, each once."""
        taken, self._orders = self._orders, []
        return taken

    def events(self) -> list[FollowerEvent]:
        """What happened, each once."""
        taken, self._events = self._events, []
        return taken

    def _decide(self, now: float) -> None:
        if self._held is None and not self._leaving:
            return
        for vip in dict.fromkeys(follower.vip for follower in self._followers.values()):
            self._decide_for([each for each in self._followers.values() if each.vip == vip], now)

    def _decide_for(self, followers: list[_Follower], now: float) -> None:
        """The next order for the followers of one VIP."""
        for follower in followers:
            if follower.busy is not None and follower.busy.step != "look":
                unwanted = follower.busy.step == "start" and not self.wanted(follower.service)
                if unwanted and not follower.interrupted:
                    follower.interrupted = True
                    self._orders.append(Order(service=follower.service, step="interrupt", epoch=self._epoch))
                return
        wanted = self.wanted(followers[0].service)
        for follower in followers if wanted else reversed(followers):
            if follower.busy is not None:
                return  # looked at
            if follower.retry_at > now:
                continue
            if follower.runs is None or (follower.runs == wanted and follower.look_at <= now):
                self._order(follower, "look")
                return
            if follower.runs != wanted:
                self._order(follower, "start" if wanted else "stop")
                return

    def _order(self, follower: _Follower, step: Step) -> None:
        follower.busy = Order(service=follower.service, step=step, epoch=self._epoch)
        self._orders.append(follower.busy)

    def _failed(self, follower: _Follower, problem: str, now: float) -> None:
        pause = min(LAST_RETRY, FIRST_RETRY * 2**follower.failures)
        follower.failures += 1
        follower.retry_at = now + pause
        if problem != follower.problem:
            self._tell(follower, f"{problem}; tried again in {pause:g} s")
        follower.problem = problem

    def _forget_failures(self, follower: _Follower) -> None:
        follower.failures, follower.retry_at, follower.problem = 0, 0.0, ""

    def _tell(self, follower: _Follower, text: str) -> None:
        self._events.append(FollowerEvent(service=follower.service, text=f"{follower.service} {text}"))
