"""A service as the settings name it, its state, and what may be asked of it.

A service is a systemd unit, or three commands (start, stop, status) where no systemd has it. Only what stands in the
settings of this node can be asked for anything.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Sequence

from msgspec import Struct

from hacore.errors import HacoreError


class State(enum.StrEnum):
    """What a service does."""

    RUNNING = "running"
    STARTING = "starting"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"
    MISSING = "missing"  # systemd knows no such unit
    UNKNOWN = "unknown"  # it could not be asked

    @property
    def runs(self) -> bool:
        """Whether it is there or on its way up."""
        return self in (State.RUNNING, State.STARTING)


class Action(enum.StrEnum):
    """What can be asked of a service."""

    START = "start"
    STOP = "stop"
    RESTART = "restart"


class Service(Struct, frozen=True, kw_only=True):
    """One `[[service]]`: `unit`, or the three commands; `vip` where it follows one."""

    id: str
    description: str = ""
    unit: str = ""
    start: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()
    status: tuple[str, ...] = ()
    vip: str = ""


class Report(Struct, frozen=True, kw_only=True):
    """How a service is. `since` is unix time, None where nobody knows.

    `detail` is what the system itself says (`failed: exit-code`, `exit code 3`); `follows` the VIP, with `wanted`
    whether it is to run here now (None: not known yet); `problem` why it is not as it is wanted; `log` the last lines
    of what a failed service wrote.
    """

    id: str
    description: str = ""
    unit: str = ""
    state: State = State.UNKNOWN
    since: float | None = None
    detail: str = ""
    follows: str = ""
    wanted: bool | None = None
    problem: str = ""
    log: list[str] = []


class Outcome(Struct, frozen=True, kw_only=True):
    """What became of one action. `skipped`: nothing was done, and `message` says why that is right.

    `output` is the end of what the command or the unit wrote; `duration` in seconds.
    """

    id: str
    action: Action
    ok: bool
    skipped: bool = False
    state: State = State.UNKNOWN
    message: str = ""
    output: str = ""
    duration: float = 0.0


class UnknownService(HacoreError):
    """A service that the settings of this node do not name."""

    exit_code = 64


class FollowsVip(HacoreError):
    """A service that is started and stopped with a VIP, asked for the opposite."""

    exit_code = 75


def find(services: Sequence[Service], wanted: str) -> Service:
    """The service with this id. Raises UnknownService that names those there are."""
    for service in services:
        if service.id == wanted:
            return service
    from difflib import get_close_matches

    known = [service.id for service in services]
    near = get_close_matches(wanted, known, 1)
    there = f"did you mean {near[0]}?" if near else f"there are: {', '.join(known)}" if known else "there are none"
    raise UnknownService(f'the settings have no [[service]] with the id "{wanted}"; {there}')


def in_order(services: Sequence[Service], wanted: Collection[str]) -> list[Service]:
    """Those named, in the order of the settings. Raises UnknownService for the first that is not there."""
    for name in wanted:
        find(services, name)
    return [service for service in services if service.id in wanted]


def check_allowed(service: Service, action: Action, held: Collection[str] | None) -> None:
    """Raises FollowsVip where the action contradicts the VIP that the service follows.

    `held`: the VIPs of which this node is MASTER, None while that is not known.
    """
    if not service.vip:
        return
    if held is None:
        raise FollowsVip(f'{service.id} follows the VIP "{service.vip}", and who holds that is not known here yet')
    holds = service.vip in held
    if holds and action is Action.STOP:
        raise FollowsVip(
            f'{service.id} follows the VIP "{service.vip}", which this node holds: it would be started again at once'
        )
    if not holds and action is not Action.STOP:
        raise FollowsVip(
            f'{service.id} follows the VIP "{service.vip}", which this node does not hold: it runs where the VIP is'
        )
