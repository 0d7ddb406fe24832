"""The machine behind `run_on = "MASTER"`, with literal times."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hacore.services.followers import FIRST_RETRY, LAST_RETRY, LOOK_INTERVAL, SETTLED, Followers, Order


def followers(*services: str, held: tuple[str, ...] = (), running: bool = False) -> Followers:
    """Followers of the VIP wan, whose roles are known and who were seen."""
    made = Followers()
    made.load([(service, "wan") for service in services], 0.0)
    made.roles(held, 0.0)
    settle(made, dict.fromkeys(services, running), 0.0)
    return made


def settle(made: Followers, running: dict[str, bool], now: float) -> list[str]:
    """Carries out all that is ordered, as a system would that always obeys; returns `step service` of each."""
    done = []
    while orders := made.orders():
        for order in orders:
            if order.step == "look":
                made.observed(order.service, running[order.service], "", now)
                continue
            done.append(f"{order.step} {order.service}")
            if order.step != "interrupt":
                running[order.service] = order.step == "start"
                made.finished(order, "", now)
    return done


def one(made: Followers) -> Order:
    (order,) = made.orders()
    return order


def test_nothing_is_done_before_the_roles_are_known() -> None:
    made = Followers()
    made.load([("line", "wan")], 0.0)
    assert made.orders() == []
    assert made.next_deadline() is None
    assert made.wanted("line") is None


def test_started_in_order_and_stopped_in_reverse() -> None:
    running = {"line": False, "vpn": False}
    made = followers("line", "vpn")
    made.roles(["wan"], 1.0)
    assert settle(made, running, 1.0) == ["start line", "start vpn"]
    made.roles([], 2.0)
    assert settle(made, running, 2.0) == ["stop vpn", "stop line"]
    assert [event.text for event in made.events()] == [
        "line started: this node holds wan",
        "vpn started: this node holds wan",
        "vpn stopped: this node does not hold wan",
        "line stopped: this node does not hold wan",
    ]


def test_the_next_waits_for_the_one_before() -> None:
    made = followers("line", "vpn")
    made.roles(["wan"], 1.0)
    first = one(made)
    assert (first.service, first.step) == ("line", "start")
    made.handle_deadline(50.0)
    assert made.orders() == []
    made.finished(first, "", 51.0)
    assert one(made).service == "vpn"


def test_vips_do_not_wait_for_each_other() -> None:
    made = Followers()
    made.load([("line", "wan"), ("relay", "lan")], 0.0)
    made.roles(["wan", "lan"], 0.0)
    assert {(order.service, order.step) for order in made.orders()} == {("line", "look"), ("relay", "look")}


def test_what_runs_already_is_taken_up_as_it_is() -> None:
    made = Followers()
    made.load([("line", "wan")], 0.0)
    made.roles(["wan"], 0.0)
    assert settle(made, {"line": True}, 0.0) == []


def test_what_runs_without_the_vip_is_stopped() -> None:
    made = Followers()
    made.load([("line", "wan")], 0.0)
    made.roles([], 0.0)
    assert settle(made, {"line": True}, 0.0) == ["stop line"]


def test_a_late_stop_is_waited_for_before_the_newer_start() -> None:
    made = followers("line", held=("wan",), running=True)
    made.roles([], 1.0)
    stop = one(made)
    made.roles(["wan"], 2.0)
    assert made.orders() == []
    made.finished(stop, "", 30.0)
    start = one(made)
    assert start.step == "start"
    assert start.epoch > stop.epoch


def test_the_answer_to_an_older_order_changes_nothing() -> None:
    made = followers("line", held=("wan",), running=True)
    made.roles([], 1.0)
    stop = one(made)
    made.finished(stop, "", 2.0)
    made.roles(["wan"], 3.0)
    start = one(made)
    made.finished(stop, "", 4.0)
    assert made.orders() == []
    made.finished(start, "", 5.0)
    assert made.standing("line") is not None
    assert settle(made, {"line": True}, 5.0) == []


def test_a_start_that_is_no_longer_wanted_is_interrupted_once_and_then_stopped() -> None:
    made = followers("line")
    made.roles(["wan"], 1.0)
    start = one(made)
    made.roles([], 2.0)
    assert one(made).step == "interrupt"
    made.handle_deadline(3.0)
    assert made.orders() == []
    made.finished(start, "interrupted", 3.5)
    assert one(made).step == "look"
    made.observed("line", True, "", 3.6)
    assert one(made).step == "stop"
    standing = made.standing("line")
    assert standing is not None
    assert not standing.failures


def test_a_failed_start_is_tried_again_less_and_less_often() -> None:
    made = followers("line")
    made.roles(["wan"], 0.0)
    now, pauses = 0.0, []
    for _ in range(9):
        start = one(made)
        assert start.step == "start"
        made.finished(start, "no carrier", now)
        deadline = made.next_deadline()
        assert deadline is not None
        pauses.append(deadline - now)
        now = deadline
        made.handle_deadline(now)
        assert one(made).step == "look"
        made.observed("line", False, "", now)
    assert pauses == [FIRST_RETRY, 2.0, 4.0, 8.0, 16.0, 32.0, LAST_RETRY, LAST_RETRY, LAST_RETRY]
    standing = made.standing("line")
    assert standing is not None
    assert standing.problem == "did not start: no carrier"
    assert [event.text for event in made.events()] == ["line did not start: no carrier; tried again in 1 s"]


def test_one_that_fails_does_not_hold_up_the_next() -> None:
    made = followers("line", "vpn")
    made.roles(["wan"], 0.0)
    made.finished(one(made), "no carrier", 0.0)
    assert one(made).service == "vpn"


def test_a_change_of_the_role_ends_the_waiting() -> None:
    made = followers("line")
    made.roles(["wan"], 0.0)
    for now in (0.0, 20.0, 40.0):
        made.finished(one(made), "no carrier", now)
        made.handle_deadline(now + 10)
        one(made)
        made.observed("line", False, "", now + 10)
    made.finished(one(made), "no carrier", 60.0)
    made.roles([], 61.0)
    made.roles(["wan"], 62.0)
    standing = made.standing("line")
    assert standing is not None
    assert (standing.failures, standing.problem) == (0, "")


def test_one_that_ends_by_itself_is_started_again_with_pauses() -> None:
    made = followers("line")
    made.roles(["wan"], 0.0)
    made.finished(one(made), "", 0.0)
    assert made.next_deadline() == LOOK_INTERVAL
    made.handle_deadline(LOOK_INTERVAL)
    made.observed(one(made).service, False, "exit code 1", LOOK_INTERVAL)
    assert made.orders() == []
    assert made.next_deadline() == LOOK_INTERVAL + FIRST_RETRY
    made.handle_deadline(LOOK_INTERVAL + FIRST_RETRY)
    start = one(made)
    assert start.step == "start"
    made.finished(start, "", 7.0)
    standing = made.standing("line")
    assert standing is not None
    assert standing.failures == 1
    made.handle_deadline(7.0 + SETTLED + 1)
    made.observed(one(made).service, True, "", 7.0 + SETTLED + 1)
    standing = made.standing("line")
    assert standing is not None
    assert standing.failures == 0


def test_one_that_cannot_be_asked_is_neither_started_nor_stopped() -> None:
    made = Followers()
    made.load([("line", "wan")], 0.0)
    made.roles(["wan"], 0.0)
    made.observed(one(made).service, None, "no bus", 0.0)
    assert made.orders() == []
    standing = made.standing("line")
    assert standing is not None
    assert "no bus" in standing.problem
    made.handle_deadline(FIRST_RETRY)
    assert one(made).step == "look"


def test_leaving_stops_what_runs_and_knows_when_that_is_done() -> None:
    made = followers("line", "vpn", held=("wan",), running=True)
    made.leave(1.0)
    assert not made.is_gone
    assert settle(made, {"line": True, "vpn": True}, 1.0) == ["stop vpn", "stop line"]
    assert made.is_gone


def test_leaving_does_not_wait_for_one_that_will_not_stop() -> None:
    made = followers("line", held=("wan",), running=True)
    made.leave(1.0)
    made.finished(one(made), "timed out", 2.0)
    assert made.is_gone


def test_a_service_that_left_the_settings_is_left_alone() -> None:
    made = followers("line", held=("wan",), running=True)
    made.roles([], 1.0)
    stop = one(made)
    made.load([], 2.0)
    made.finished(stop, "", 3.0)
    assert made.orders() == []
    assert made.standing("line") is None


def test_one_that_moves_to_another_vip_follows_that_one() -> None:
    made = followers("line", held=("wan",), running=True)
    made.load([("line", "lan")], 1.0)
    assert one(made).step == "stop"


@pytest.mark.parametrize("seed", range(3))
def test_a_busy_system_ends_where_the_roles_say(seed: int) -> None:
    _play(random.Random(seed), 400)


@given(st.randoms(use_true_random=False))
def test_any_order_of_events_ends_where_the_roles_say(source: random.Random) -> None:
    _play(source, 40)


def _play(source: random.Random, steps: int) -> None:
    """A system that answers when it likes and sometimes fails. What happens to a service happens one at a time, and
    when all is quiet each runs where its VIP is.
    """
    services = {"line": "wan", "vpn": "wan", "relay": "lan"}
    made = Followers()
    made.load(services.items(), 0.0)
    running = dict.fromkeys(services, False)
    under_way: list[Order] = []
    held: set[str] = set()
    now = 0.0

    def collect() -> None:
        for order in made.orders():
            if order.step != "interrupt":
                assert all(order.service != other.service for other in under_way)
                under_way.append(order)

    def answer(order: Order, fails: bool) -> None:
        under_way.remove(order)
        if order.step == "look":
            made.observed(order.service, None if fails else running[order.service], "?", now)
            return
        if not fails:
            running[order.service] = order.step == "start"
        made.finished(order, "no" if fails else "", now)

    for _ in range(steps):
        now += source.random() * 3
        what = source.randrange(4)
        if what == 0:
            held = {vip for vip in ("wan", "lan") if source.random() < 0.5}
            made.roles(held, now)
        elif what == 1:
            running[source.choice([*services])] = False
        elif what == 2 and under_way:
            answer(source.choice(under_way), source.random() < 0.3)
        made.handle_deadline(now)
        collect()
    made.roles(held, now)
    for _ in range(60):
        collect()
        while under_way:
            answer(under_way[0], fails=False)
            collect()
        deadline = made.next_deadline()
        assert deadline is not None
        now = max(now, deadline)
        made.handle_deadline(now)
    assert running == {service: vip in held for service, vip in services.items()}
