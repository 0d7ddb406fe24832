"""What a MASTER holds in the kernel, and when it is renewed."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from hacore.carp.router import RouterSettings
from hacore.linux import rtnl
from hacore.node.messages import Device
from hacore.node.pulse import Pulse
from hacore.node.vips import LIFETIME, RENEW_AFTER, RENEWALS_AT_ONCE, RENEWED_TOGETHER, Vip, Vips
from tests.namespaces import Host, wait_until

BOTH = ("10.1.0.1/32", "2001:db8:1::1/128")


@pytest.fixture
def vips(lan: Host) -> Iterator[Vips]:
    fd = Pulse.create()
    pulse = Pulse(fd)
    os.close(fd)
    with lan.entered():
        made = Vips(pulse)
    yield made
    made.finish(5.0)
    made.close()
    pulse.close()


def vip(lan: Host, number: int, addresses: tuple[str, ...]) -> Vip:
    settings = RouterSettings(
        name=f"vip{number}", interface="lan", vhid=number, advbase=1, advskew=0, addresses=addresses, password=b""
    )
    index = lan.index("lan")
    device = Device(
        name=settings.name, device="lan", ifindex=index, parent_ifindex=index, mac="", parent_mac="",
        noprefixroute=[True] * len(addresses), gate="none",
    )  # fmt: skip
    return Vip(number, settings, device)


def many(lan: Host, vips: Vips, count: int) -> list[Vip]:
    made = [vip(lan, number, (f"10.1.{number // 250}.{number % 250}/32",)) for number in range(1, count + 1)]
    vips.configure({("lan", each.settings.vhid): each for each in made})
    return made


def held(lan: Host) -> set[str]:
    with lan.entered():
        return {each.address for each in rtnl.dump_addresses() if each.ours}


@pytest.mark.parametrize("address", ["10.1.0.1", "2001:db8:1::1"])
def test_what_somebody_removes_is_put_back_and_told(lan: Host, vips: Vips, address: str) -> None:
    one = vip(lan, 1, BOTH)
    vips.configure({("lan", 1): one})
    vips.bring_in_line(lambda _place: True, 0.0)
    vips.finish(5.0)
    lan.ip(f"addr del {address}/{128 if ':' in address else 32} dev lan")
    vips.put_back(one, address)
    vips.finish(5.0)
    assert vips.were_put_back() == [(one, address)]
    assert vips.were_put_back() == []
    assert held(lan) == {each.split("/")[0] for each in BOTH}
    assert vips.problems() == []


def test_what_the_node_itself_gave_up_and_took_back_was_removed_by_nobody(lan: Host, vips: Vips) -> None:
    """The kernel tells of the removal when the addresses are there again."""
    one = vip(lan, 1, BOTH)
    vips.configure({("lan", 1): one})
    for hold in (True, False, True):
        vips.bring_in_line(lambda _place, hold=hold: hold, 0.0)  # type: ignore[misc]
    for address in BOTH:
        vips.put_back(one, address.split("/")[0])
    vips.finish(5.0)
    assert vips.were_put_back() == []
    assert vips.problems() == []


def test_an_interface_that_is_gone_is_no_problem_and_nothing_is_put_back(lan: Host, vips: Vips) -> None:
    one = vip(lan, 1, BOTH)
    lan.ip("link del lan")
    vips.put_back(one, "10.1.0.1")
    vips.finish(5.0)
    assert vips.were_put_back() == []
    assert vips.problems() == []


def test_what_is_due_soon_is_renewed_together(lan: Host, vips: Vips) -> None:
    first, second, third = many(lan, vips, 3)
    now = 100.0
    for at, until in ((now, 1), (now + RENEWED_TOGETHER / 2, 2), (now + 3 * RENEWED_TOGETHER, 3)):
        vips.bring_in_line(lambda place, until=until: place[1] <= until, at)  # type: ignore[misc]
    assert vips.next_renewal == now + RENEW_AFTER
    now += RENEW_AFTER
    vips.renew(now - 0.01, now - 0.01)
    assert vips.next_renewal == now
    vips.renew(now, now)
    assert first.renew_at == second.renew_at == now + RENEW_AFTER
    assert vips.next_renewal == third.renew_at < now + RENEW_AFTER


def test_what_is_due_before_the_next_wake_is_renewed_at_this_one(lan: Host, vips: Vips) -> None:
    (only,) = many(lan, vips, 1)
    vips.bring_in_line(lambda _place: True, 100.0)
    vips.renew(100.1, 100.0 + RENEW_AFTER - 0.01)
    assert only.renew_at == 100.0 + RENEW_AFTER
    vips.renew(100.1, 100.0 + RENEW_AFTER + 0.01)
    assert only.renew_at == 100.1 + RENEW_AFTER


def test_a_batch_is_small_and_all_come_in_turn_before_one_comes_again(lan: Host, vips: Vips) -> None:
    made = many(lan, vips, 3 * RENEWALS_AT_ONCE)
    vips.bring_in_line(lambda _place: True, 0.0)
    now = RENEW_AFTER
    for turn in range(1, 4):
        vips.renew(now, now)
        renewed = [each for each in made if each.renew_at > now]
        assert len(renewed) == turn * RENEWALS_AT_ONCE
        now += 0.001
    assert vips.next_renewal > now


def test_what_is_given_up_is_renewed_no_more(lan: Host, vips: Vips) -> None:
    many(lan, vips, 3)
    vips.bring_in_line(lambda _place: True, 0.0)
    vips.bring_in_line(lambda place: place[1] == 2, 0.1)
    vips.renew(RENEW_AFTER, RENEW_AFTER)
    vips.finish(5.0)
    assert held(lan) == {"10.1.0.2"}
    vips.bring_in_line(lambda _place: False, RENEW_AFTER)
    assert vips.next_renewal > 1e9
    vips.renew(10.0, 10.0, everything=True)
    vips.finish(5.0)
    assert held(lan) == set()


def test_new_settings_renew_at_once_what_stays(lan: Host, vips: Vips) -> None:
    many(lan, vips, 2)
    vips.bring_in_line(lambda _place: True, 100.0)
    many(lan, vips, 1)
    assert vips.next_renewal == 0.0
    vips.bring_in_line(lambda place: place[1] == 1, 100.1)
    vips.renew(100.1, 100.1)
    vips.finish(5.0)
    assert vips.next_renewal == 100.1 + RENEW_AFTER
    assert held(lan) == {"10.1.0.1"}


def test_what_is_not_renewed_leaves_by_the_kernels_hand(lan: Host, vips: Vips) -> None:
    many(lan, vips, 1)
    vips.bring_in_line(lambda _place: True, 0.0)
    vips.finish(5.0)
    assert held(lan)
    wait_until(lambda: not held(lan), LIFETIME + 5.0)
