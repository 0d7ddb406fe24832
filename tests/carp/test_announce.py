"""When addresses are announced, and the limit on it."""

from __future__ import annotations

from hacore.carp.announce import Announcements, RateLimit, after_silence
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
