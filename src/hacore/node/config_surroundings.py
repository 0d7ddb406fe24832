"""What the execution of a push needs of the node around it; the control worker gives the real ones, tests their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from hacore.configsync.report import Failure, StepFailed
from hacore.errors import HacoreError, SettingsError
from hacore.node.settings import Settings


def _nothing() -> None:
    return


class Restarted(NamedTuple):
    """What became of a service: `text` is for people, such as "restarted" or why not."""

    name: str
    ok: bool
    text: str


class Standing(NamedTuple):
    """How a service is: None where nobody can tell. It began to run at `began`, seconds of the monotonic clock."""

    name: str
    runs: bool | None
    began: float | None = None


def not_known(names: Sequence[str]) -> list[Standing]:
    """Where nobody can be asked."""
    return [Standing(name, None) for name in names]


def no_services(names: Sequence[str]) -> list[Restarted]:
    """Where nobody can do it."""
    return [Restarted(name, False, "this node controls no services") for name in names]


@dataclass(frozen=True, kw_only=True, slots=True)
class Surroundings:
    """Functions that block, called from the thread that executes.

    `settings()`: the node's settings as its files say now; raises SettingsError. `reload()`: the whole node takes them;
    raises HacoreError. `look(names)`: how services are. `restart(names)`, `stop(names)`: in the settings' order; one
    that follows a VIP and may not be is left alone.
    `states()`: the VIPs with their CARP states. `links()`: as `examine` takes them, None where VIPs are not to be
    compared with the machine's interfaces. `record(text)`: a line for the node's history.
    """

    settings: Callable[[], Settings]
    reload: Callable[[], None] = _nothing
    look: Callable[[Sequence[str]], Sequence[Standing]] = not_known
    restart: Callable[[Sequence[str]], Sequence[Restarted]] = no_services
    stop: Callable[[Sequence[str]], Sequence[Restarted]] = no_services
    states: Callable[[], Mapping[str, str]] = dict
    links: Callable[[], Mapping[str, bool] | None] = lambda: None
    record: Callable[[str], None] = lambda _text: None

    def take_settings(self) -> None:
        """The node takes its settings; raises StepFailed."""
        try:
            self.reload()
        except SettingsError as error:
            raise StepFailed(
                Failure(step="apply", code="apply-failed", message="the node refused its settings", output=str(error))
            ) from None
        except HacoreError as error:
            raise StepFailed(
                Failure(step="apply", code="apply-failed", message=f"the node did not reload its settings: {error}")
            ) from None
