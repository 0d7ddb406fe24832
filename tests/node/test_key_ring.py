"""Keys that were current until lately, over restarts."""

from __future__ import annotations

import math
from ipaddress import IPv4Interface
from pathlib import Path

import msgspec

from hacore.node.key_ring import FILE, KeyRing
from hacore.node.settings import Vip
from hacore.node.settings_values import Secret


def vip(password: bytes = b"old", *addresses: str) -> Vip:
    return Vip(
        name="lan",
        interface="lan",
        vhid=1,
        password=Secret(password),
        addresses=tuple(IPv4Interface(address) for address in addresses or ("10.1.0.1/16",)),
    )


def ring(directory: Path, *vips: Vip, now: float, asked: bool = False) -> KeyRing:
    made = KeyRing(directory)
    assert made.remember(vips, 600.0, now, asked=asked) == ""
    return made


def test_nothing_changed(tmp_path: Path) -> None:
    ring(tmp_path, vip(), now=0.0)
    assert ring(tmp_path, vip(), now=10.0).previous(vip(), 10.0) == ()


def test_a_replaced_key_lasts_for_rekey_time_over_restarts(tmp_path: Path) -> None:
    ring(tmp_path, vip(b"old"), now=0.0)
    (previous,) = ring(tmp_path, vip(b"new"), now=100.0).previous(vip(b"new"), 100.0)
    assert (previous.password, previous.addresses, previous.remaining) == (b"old", frozenset({"10.1.0.1"}), 600.0)
    again = ring(tmp_path, vip(b"new"), now=400.0)
    assert again.previous(vip(b"new"), 400.0)[0].remaining == 300.0
    assert ring(tmp_path, vip(b"new"), now=701.0).previous(vip(b"new"), 701.0) == ()


def test_address_lists_count_and_prefix_lengths_do_not(tmp_path: Path) -> None:
    ring(tmp_path, vip(b"old", "10.1.0.1/16"), now=0.0)
    assert ring(tmp_path, vip(b"old", "10.1.0.1/24"), now=1.0).previous(vip(), 1.0) == ()
    assert len(ring(tmp_path, vip(b"old", "10.1.0.1/24", "10.1.0.2/24"), now=2.0).previous(vip(), 2.0)) == 1


def test_going_back_forgets_neither(tmp_path: Path) -> None:
    ring(tmp_path, vip(b"a"), now=0.0)
    ring(tmp_path, vip(b"b"), now=1.0)
    (previous,) = ring(tmp_path, vip(b"a"), now=2.0).previous(vip(b"a"), 2.0)
    assert previous.password == b"b"


def test_the_file_is_secret_and_a_broken_one_is_told(tmp_path: Path) -> None:
    ring(tmp_path, vip(), now=0.0)
    path = tmp_path / FILE
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(b"{")
    assert "previous keys are lost" in KeyRing(tmp_path).remember([vip()], 600.0, 1.0)
    assert ring(tmp_path, vip(), now=2.0).previous(vip(), 2.0) == ()


def test_an_old_key_that_nobody_needs_is_forgotten(tmp_path: Path) -> None:
    ring(tmp_path, vip(b"old"), now=0.0)
    made = ring(tmp_path, vip(b"new"), now=100.0)
    assert made.forget([vip(b"new")], 100.0) == (["lan"], "")
    assert made.previous(vip(b"new"), 100.0) == ()
    assert made.forget([vip(b"new")], 100.0) == ([], "")
    assert ring(tmp_path, vip(b"new"), now=101.0).previous(vip(b"new"), 101.0) == ()


def passwords(keys: KeyRing, current: Vip, now: float) -> list[tuple[bytes, float]]:
    return [(key.password, key.remaining) for key in keys.previous(current, now)]


def test_where_other_nodes_can_be_asked_an_old_key_lasts_until_they_are_known_to_have_the_new_one(
    tmp_path: Path,
) -> None:
    ring(tmp_path, vip(b"old"), now=0.0, asked=True)
    made = ring(tmp_path, vip(b"new"), now=100.0, asked=True)
    assert passwords(made, vip(), 100.0) == [(b"old", math.inf)]
    assert (made.overdue([vip()], 699.0), made.overdue([vip()], 700.0)) == ([], ["lan"])
    made = ring(tmp_path, vip(b"new"), now=90_000.0, asked=True)
    assert passwords(made, vip(), 90_000.0) == [(b"old", math.inf)]
    assert made.forget([vip(b"new")], 90_000.0) == (["lan"], "")
    assert passwords(ring(tmp_path, vip(b"new"), now=90_001.0, asked=True), vip(), 90_001.0) == []


def test_it_waits_no_longer_where_nobody_can_be_asked_any_more(tmp_path: Path) -> None:
    ring(tmp_path, vip(b"old"), now=0.0, asked=True)
    ring(tmp_path, vip(b"new"), now=100.0, asked=True)
    assert passwords(ring(tmp_path, vip(b"new"), now=200.0), vip(), 200.0) == [(b"old", 500.0)]
    assert passwords(ring(tmp_path, vip(b"new"), now=800.0), vip(), 800.0) == []


def test_a_vip_that_is_no_other_node_s_ends_its_keys_by_time(tmp_path: Path) -> None:
    def own(password: bytes) -> Vip:
        return msgspec.structs.replace(vip(password), sync=False)

    ring(tmp_path, own(b"old"), now=0.0, asked=True)
    assert passwords(ring(tmp_path, own(b"new"), now=100.0, asked=True), vip(), 100.0) == [(b"old", 600.0)]


def test_for_nodes_that_cannot_be_asked_the_time_still_counts(tmp_path: Path) -> None:
    ring(tmp_path, vip(b"old"), now=0.0, asked=True)
    made = ring(tmp_path, vip(b"new"), now=100.0, asked=True)
    assert made.forget([vip(b"new")], 200.0, timed=True) == ([], "")
    assert passwords(made, vip(), 200.0) == [(b"old", 500.0)]
    assert made.forget([vip(b"new")], 700.0, timed=True) == (["lan"], "")


def test_of_several_changes_that_were_tried_here_alone_the_one_that_all_had_is_kept(tmp_path: Path) -> None:
    for now, password in enumerate((b"all have it", b"second", b"third", b"fourth")):
        made = ring(tmp_path, vip(password), now=float(now), asked=True)
    assert passwords(made, vip(), 4.0) == [(b"second", math.inf), (b"all have it", math.inf)]
