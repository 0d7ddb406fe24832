"""What is made of the nodes' words: verdict, staleness, ages, charts."""

from __future__ import annotations

import time

import pytest

from hacore.control.live import LiveWord
from hacore.node.snapshot import CheckStatus, Demotion, LinkStatus, Worker
from hacore.web import wording
from hacore.web.charts import HEIGHT, LEFT, MEASURES, WIDTH, draw
from hacore.web.hour import SLOT, SPAN, Hour, Slot
from hacore.web.verdict import verdict
from hacore.web.watch import STALE, NodeView
from tests.web.words import event, snapshot, states, view

# The verdict


def test_a_healthy_pair() -> None:
    found = verdict([view("fw1", "MASTER"), view("fw2", "BACKUP")], time.time())
    assert (found.level, found.word) == ("good", "Healthy")
    assert [one.text for one in found.findings] == ["fw1 is MASTER of lan; fw2 stands by"]


@pytest.mark.parametrize(
    ("values", "level", "text"),
    [
        ({"maintenance": True}, "notice", "fw2 is in maintenance"),
        ({"carp_enabled": False}, "notice", "CARP is disabled"),
        ({"demotion": Demotion(total=240, reasons={"bulk update": 240})}, "notice", "demoted by 240: bulk update"),
        ({"links": [LinkStatus(name="wan", present=True)]}, "bad", "wan has no link"),
        ({"links": [LinkStatus(name="wan")]}, "bad", "wan is missing"),
        ({"checks": [CheckStatus(name="upstream", state="down")]}, "bad", "the check upstream fails"),
        ({"version": "2.0"}, "notice", "fw1 runs 1.0 and fw2 runs 2.0"),
        ({"workers": {"election": Worker(state="failed")}}, "bad", "the election worker is not running"),
        ({"reported": 1.0}, "bad", "does not answer"),
        ({"reported": 0.0}, "bad", "has not reported"),
        ({"workers": {}}, "bad", "says nothing of its election"),
        ({"workers": {"election": Worker(state="running"), "states": Worker(state="stopped")}}, "bad", "states worker"),
    ],
)
def test_what_is_not_well_is_named(values: dict[str, object], level: str, text: str) -> None:
    found = verdict([view("fw1"), view("fw2", "BACKUP", **values)], time.time())
    assert found.level == level
    assert any(text in one.text for one in found.findings if one.level == level), found


@pytest.mark.parametrize(
    ("states", "text"),
    [(("MASTER", "MASTER"), "lan has 2 MASTERs: fw1 and fw2"), (("BACKUP", "INIT"), "lan has no MASTER")],
)
def test_one_master_and_no_more(states: tuple[str, str], text: str) -> None:
    found = verdict([view("fw1", states[0]), view("fw2", states[1])], time.time())
    assert found.level == "bad"
    assert found.findings[0].text == text


def test_a_master_that_says_nothing_any_more_is_none() -> None:
    old = view("fw1", "MASTER")
    old._heard -= STALE + 1
    old.at = time.time() - STALE - 1
    old.lose("no answer in time")
    found = verdict([old, view("fw2", "BACKUP")], time.time())
    assert (found.level, found.word) == ("bad", "Trouble")
    texts = [one.text for one in found.findings]
    assert texts[0].startswith("fw1: no word since ")
    assert texts[0].endswith("(no answer in time)")
    assert "lan: no MASTER is known" in texts
    assert not any("fw1 is MASTER" in text for text in texts)


def test_a_node_that_never_said_a_word() -> None:
    found = verdict([view("fw1"), NodeView("fw2", here=False)], time.time())
    assert found.findings[0].text == "fw2: no word yet (no word has come yet)"
    assert verdict([view("fw1")], time.time()).level == "notice"
    assert verdict([NodeView("fw1", here=True)], time.time()).level == "bad"


# A node's view


def test_three_seconds_are_long() -> None:
    node = view()
    assert node.is_known()
    assert node.reason == ""
    assert node.state_of("lan") == "MASTER"
    assert 0 < node.until_stale() <= STALE
    node._heard -= STALE
    assert not node.is_known()
    assert node.reason == "nothing came for 3 s"
    assert node.state_of("lan") == ""
    assert node.until_stale() == 0.0
    assert node.snapshot is not None, "what it said last is still there to be shown as that"


def test_a_word_without_a_status_makes_nothing_younger() -> None:
    node = view()
    at, heard = node.at, node._heard
    node.take(LiveWord(at=time.time(), problem="the supervisor did not answer within 2 s"))
    assert (node.at, node._heard) == (at, heard)
    node._heard -= STALE
    assert node.reason == "the supervisor did not answer within 2 s"


def test_what_the_election_does_not_vouch_for_is_not_known() -> None:
    assert view(age=10.0).state_of("lan") == ""
    assert "does not answer" in view(age=10.0).doubt


def test_another_clock() -> None:
    node = NodeView("fw2", here=False)
    node.take(LiveWord(at=time.time() + 100, snapshot=snapshot("fw2")))
    assert node.skew == pytest.approx(100, abs=1)
    assert node.local(1100.0) == pytest.approx(1000, abs=1)
    assert node.local(0.0) == 0.0
    assert any("100 s ahead of" in one.text for one in verdict([view(), node], time.time()).findings)
    node.take(LiveWord(at=time.time() + 0.2, snapshot=snapshot("fw2")))
    assert node.skew == 0.0, "what the network takes is no difference"


def test_events_come_once_and_the_oldest_go() -> None:
    node = NodeView("fw1", here=True)
    for number in range(300):
        node.take(LiveWord(at=0.0, events=[event(number, 0.0), event(max(0, number - 1), 0.0)]))
    assert sorted(node.events) == list(range(100, 300))


# The hour


def test_figures_of_the_hour_are_the_worst_of_five_seconds() -> None:
    hour = Hour()
    for second in range(int(SPAN) + 60):
        lag = 0.5 if second == 3602 else 0.0
        said = snapshot()
        said.states = states(second, second * 10, float(second), lag)
        hour.take(said, float(second))
    slots = hour.slots(SPAN + 60)
    assert len(slots) == SPAN / SLOT
    assert hour.rate == pytest.approx(10)
    assert {slot.rate for slot in slots} == {10.0}
    assert [slot.at for slot in slots if slot.lag == 0.5] == [3600.0]
    assert slots[-1].rows == SPAN + 59


def test_a_worker_that_began_anew_is_no_negative_rate() -> None:
    hour = Hour()
    for at, position in ((0.0, 1000), (1.0, 1100), (2.0, 5), (3.0, 15)):
        said = snapshot()
        said.states = states(1, position, at)
        hour.take(said, at)
    assert hour.rate == pytest.approx(10)
    hour.take(snapshot(), 4.0)
    assert hour.rate == 0.0


# Charts


def test_a_chart_stays_within_its_frame_and_shows_gaps() -> None:
    now = 10_000.0
    slots = [Slot(at, int(at), at / 7, 0.001) for at in range(int(now - SPAN), int(now), 5) if not 7000 < at < 8000]
    for measure in MEASURES:
        chart = draw(measure, [("fw1", slots), ("fw2", [])], now)
        assert chart.lines[1].path == ""
        assert chart.lines[0].path.count("M") == 2
        for part in chart.lines[0].path.replace("M", " L").split("L")[1:]:
            x, y = map(float, part.split())
            assert LEFT - 3 <= x <= WIDTH
            assert 0 <= y <= HEIGHT
        assert "fw2 unknown" in chart.told


def test_a_chart_without_anything() -> None:
    chart = draw(MEASURES[0], [("fw1", [])], 0.0)
    assert chart.ticks[-1].text == "10"
    assert chart.peak == "0"


# Words


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 s"), (0.9, "0 s"), (59.9, "59 s"), (60, "1 m"), (192, "3 m 12 s"), (7500, "2 h 5 m"), (1e6, "11 d 13 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert wording.duration(seconds) == text


def test_numbers() -> None:
    assert [wording.number(value) for value in (0, 3, 0.25, 12345.6, 1e6)] == ["0", "3", "0.2", "12,346", "1,000,000"]
    assert [wording.lag(value) for value in (0, 0.0032, 0.25, 1.44)] == ["0 ms", "3.2 ms", "250 ms", "1.4 s"]
    assert [wording.size(value) for value in (0, 1023, 2048, 3 << 20, 5 << 30)] == [
        "0 bytes", "1023 bytes", "2.0 KiB", "3.0 MiB", "5.0 GiB"
    ]  # fmt: skip
    assert [wording.listed(words) for words in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "", "a", "a and b", "a, b and c"
    ]  # fmt: skip


def test_a_moment_of_another_day_has_its_date() -> None:
    now = time.time()
    assert len(wording.clock(now, now)) == len("12:00:00")
    assert len(wording.clock(now - 90_000, now)) == len("2026-01-01 12:00:00")
