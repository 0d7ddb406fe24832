"""When a node that came back may take over again."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from hacore.node.messages import StatesCondition
from hacore.node.settings import Settings
from hacore.node.states_supervision import StatesSupervision
from hacore.node.supervisor import Supervisor
from tests.node.test_states_first_dump import Clockwork

WAITING = {"bulk update": 240}


class Returning(StatesSupervision):
    """The supervision of a node whose peers are b and c; its worker says what the test says."""

    def __init__(self) -> None:
        self.clockwork = Clockwork()
        self.demotions: dict[str, int] = {}
        self.told: list[str] = []
        node = SimpleNamespace(
            states={}, demotions=self.demotions, warnings={}, loop=self.clockwork, demote=self._set,
            history=SimpleNamespace(record=lambda _kind, text, **_more: self.told.append(text)),
        )  # fmt: skip
        super().__init__(cast("Supervisor", node))
        self.node = node

    def _set(self, reason: str, value: int) -> None:
        if value:
            self.demotions[reason] = value
        else:
            del self.demotions[reason]

    def _begin(self) -> None:
        """There is no process."""

    def says(self, *connected: str, awaits: tuple[str, ...] = ()) -> dict[str, int]:
        self._hear(StatesCondition(connected=sorted(connected), awaited=sorted(awaits)), current=True)
        return self.demotions

    @property
    def warnings(self) -> str:
        return " ".join(self.node.warnings.values())


@pytest.fixture
def returning(monkeypatch: pytest.MonkeyPatch) -> Returning:
    made = SimpleNamespace(peers=[SimpleNamespace(name="b"), SimpleNamespace(name="c")])
    monkeypatch.setattr("hacore.node.states_supervision.configuration", lambda _settings: made)
    supervision = Returning()
    settings: Any = SimpleNamespace(states=SimpleNamespace(bulk_deadline=60.0))
    supervision.load(cast("Settings", settings))
    return supervision


def test_a_backup_that_has_nothing_to_say_does_not_speak_for_the_master(returning: Returning) -> None:
    assert returning.demotions == WAITING | {"no state sync": 240}
    assert "of b, c are awaited" in returning.warnings
    assert returning.says("c", awaits=("c",)) == WAITING
    assert returning.says("c") == WAITING
    assert "of b are awaited" in returning.warnings
    assert returning.says("b", "c", awaits=("b",)) == WAITING
    assert returning.says("b", "c") == {}
    assert not returning.warnings
    assert not returning.told
    returning.clockwork.pass_time(200.0)
    assert not returning.told


def test_a_peer_that_is_off_is_awaited_until_the_deadline(returning: Returning) -> None:
    returning.says("b")
    returning.clockwork.pass_time(159.0)
    assert returning.demotions == WAITING
    returning.clockwork.pass_time(160.0)
    assert returning.demotions == {}
    assert returning.told == ["no bulk update from c within 60 s: going on without"]
    assert returning.says("b") == {}


def test_a_bulk_update_that_breaks_is_awaited_on(returning: Returning) -> None:
    returning.says("b", "c", awaits=("b",))
    assert returning.says("c") == WAITING
    assert returning.says("b", "c", awaits=("b",)) == WAITING
    assert returning.says("b", "c") == {}


def test_later_only_who_comes_back_is_awaited(returning: Returning) -> None:
    returning.says("b", "c")
    assert returning.says("c") == {}
    returning.clockwork.pass_time(500.0)
    assert returning.says("c", "b", awaits=("b",)) == WAITING
    assert "of b are awaited" in returning.warnings
    assert returning.says("c", "b") == {}
    returning.clockwork.pass_time(600.0)
    assert not returning.told


def test_a_worker_that_died_leaves_all_to_be_awaited_and_a_master_waits_for_nobody(returning: Returning) -> None:
    returning.says("b", "c")
    returning._ended("died")
    assert returning.demotions == WAITING | {"no state sync": 240}
    returning.node.states["lan"] = "MASTER"
    returning.roles_changed()
    assert returning.demotions == {}
    assert not returning.warnings
