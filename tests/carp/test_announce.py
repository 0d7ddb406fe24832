"""When addresses are announced, and the limit on it."""

from __future__ import annotations

import pytest

from hacore.carp.announce import TURNS_TOGETHER, Announcements, RateLimit, after_silence
from hacore.carp.election import ANNOUNCE_RATE, Election
from hacore.carp.router import Port
from hacore.carp.terms import State
from tests.carp.simulation import Network, settings


def test_announcements_go_on_until_the_old_lease_has_ended() -> None:
    times = after_silence(0.1)
    assert times == sorted(times)
    assert any(time > 0.1 for time in times)
    assert times[-1] == 0.2


def test_due_together_count_as_one() -> None:
    announcements = Announcements()
    announcements.add(0.0, [0.0, 0.1, 0.2, 5.0])
    assert announcements.take(0.3)
    assert not announcements.take(0.4)
    assert announcements.next_time() == 5.0


def test_pending_are_bounded() -> None:
    announcements = Announcements()
    for now in range(1000):
        announcements.add_after_split(now / 1000, 3.0)
    count = 0
    while announcements.take(1e9):
        count += 1
    assert count == 1


def test_rate_limit() -> None:
    limit = RateLimit(rate=10.0, burst=5)
    assert limit.take(5, 100.0)
    assert not limit.take(1, 100.0)
    assert limit.take(1, 100.2)
    assert not limit.take(6, 200.0)


def test_who_is_refused_finds_room_at_its_turn() -> None:
    limit = RateLimit(rate=100.0, burst=5)
    assert limit.take(5, 100.0)
    turns = [limit.next_turn(1, 100.0) for _ in range(100)]
    assert turns == sorted(turns)
    assert turns[-1] == pytest.approx(101.0, abs=TURNS_TOGETHER)
    assert all(limit.take(1, at) for at in turns)


def test_postponed_takes_along_what_is_due_until_then() -> None:
    announcements = Announcements()
    announcements.add(0.0, [0.0, 0.1, 0.2, 5.0])
    assert announcements.take(0.0)
    announcements.postpone(1.0)
    assert announcements.next_time() == 1.0
    assert announcements.take(1.0)
    assert announcements.next_time() == 5.0


def test_a_takeover_of_more_than_the_limit_lets_through_does_not_keep_the_node_busy() -> None:
    count, seconds = 1000, 20
    election = Election(preempt=True, counters_from=0)
    election.set_port("lan", Port(up=True), 0.0)
    places = [settings(vhid=1 + number % 250, interface=f"lan{number // 250}") for number in range(count)]
    for name in {each.interface for each in places}:
        election.set_port(name, Port(up=True), 0.0)
    election.configure(places, 0.0, preempt=True, rekey_time=600.0)
    announced: dict[int, int] = {}
    turns, now, end = 0, 0.0, 0.0
    while not end or now < end:
        now = election.next_deadline() or 0.0
        election.handle_deadline(now)
        for frame in election.frames_to_send(now):
            if not frame.is_advert:
                announced[id(frame.router)] = announced.get(id(frame.router), 0) + 1
        if not end and all(router.state is State.MASTER for router in election.routers):
            end = now + seconds
        turns += 1 if end else 0
    assert len(announced) == count
    assert sum(announced.values()) <= 64 + 2 * count + seconds * ANNOUNCE_RATE
    assert min(announced.values()) >= 3
    assert turns <= 2 * seconds / TURNS_TOGETHER


def test_takeover_announces_both_families_before_it_advertises() -> None:
    network = Network()
    node = network.add(settings(family=46))
    kinds: list[str] = []
    network.carry = lambda sender, interface, frame: kinds.append(kind_of(frame))  # type: ignore[method-assign]
    network.run(3.1)
    assert kinds[:4] == ["arp", "na", "advert4", "advert6"]
    assert node.election.counters.opackets == 0


def kind_of(frame: bytes) -> str:
    kinds = {
        (b"\x08\x06", 0): "arp",
        (b"\x08\x00", 112): "advert4",
        (b"\x86\xdd", 58): "na",
        (b"\x86\xdd", 112): "advert6",
    }
    protocol = {b"\x08\x00": frame[23], b"\x86\xdd": frame[20]}.get(frame[12:14], 0)
    return kinds[frame[12:14], protocol]
