"""A push of hacore's own settings between two nodes' files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hacore.configsync import own_settings
from hacore.configsync.manifest import BadManifest
from tests.node.config_pair import VIP, Side, push, request

FIRST = """
[[vip]]
name = "lan"
interface = "lan0"
vhid = 1
password_file = "carp.key"
addresses = ["192.0.2.1/24", "2001:db8::1/64"]
[[vip]]
name = "fast"
interface = "wan0"
vhid = 2
advbase = 0
advskew = 1
password = "se\\"cret"
addresses = ["198.51.100.1/24"]
[[vip]]
name = "mine"
interface = "own0"
vhid = 9
password = "x"
sync = false
addresses = ["203.0.113.1/24"]
[[check]]
name = "upstream"
command = ["ping", "-c1", "203.0.113.254"]
[[section]]
id = "rules"
paths = ["/etc/rules.conf"]
check = ["true", "a \\"quoted\\" word"]
services = ["dnsmasq"]
[[service]]
id = "dnsmasq"
unit = "dnsmasq.service"
"""

SECOND = """
[[vip]]
name = "old"
interface = "lan0"
vhid = 7
password = "y"
addresses = ["192.0.2.77/24"]
[[vip]]
name = "here"
interface = "here0"
vhid = 8
password = "z"
sync = false
addresses = ["203.0.113.8/24"]
[[check]]
name = "disk"
command = ["true"]
sync = false
"""


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Side, Side]]:
    sides = (Side(tmp_path / "a", "fw1", FIRST), Side(tmp_path / "b", "fw2", SECOND))
    for side in sides:
        (side.directory / "carp.key").write_text("shared\n")
        (side.directory / "carp.key").chmod(0o600)
    yield sides
    for side in sides:
        side.node.close()


def test_the_backup_gets_the_vips_with_a_raised_advskew(pair: tuple[Side, Side]) -> None:
    a, b = pair
    own = b.settings_file.read_bytes()
    outcome = push(a, b, ["vips"])
    assert outcome.result == "applied", outcome
    vips = {vip.name: vip for vip in b.settings().vips}
    assert list(vips) == ["here", "lan", "fast"]  # its own stays, "old" is gone, "mine" stayed where it is
    assert (vips["lan"].advskew, vips["fast"].advskew) == (100, 2)
    assert vips["fast"].password == b'se"cret'
    assert vips["lan"].password == b"shared"
    assert vips["lan"].addresses == a.settings().vips[0].addresses
    assert b.settings_file.read_bytes() == own
    assert len(b.reloads) == 1
    assert request(a, b, ["vips"]).sections == []
    assert not b.node.overview(["vips"])[0].changed


def test_all_own_settings_at_once_and_back(pair: tuple[Side, Side]) -> None:
    a, b = pair
    assert push(a, b, ["sections", "vips", "checks"]).result == "applied"
    settings = b.settings()
    text = (b.directory / "hacore.toml.d/50-synced.toml").read_text()
    assert text.startswith("# What the last push from fw1 brought.")
    assert [check.name for check in settings.checks] == ["disk", "upstream"]
    assert settings.sections == a.settings().sections
    assert settings.services == a.settings().services
    b.node.roll_back(1, lambda _: None, by="admin")
    assert [vip.name for vip in b.settings().vips] == ["old", "here"]
    assert not (b.directory / "hacore.toml.d/50-synced.toml").exists()


def test_sections_must_be_known_before_they_are_pushed(pair: tuple[Side, Side]) -> None:
    a, b = pair
    a.write("/etc/rules.conf", "one\n")
    assert push(a, b, ["sections"]).result == "applied"
    assert push(a, b, ["rules"]).result == "applied"
    assert b.read("/etc/rules.conf") == "one\n"


def test_what_is_removed_on_the_master_disappears(pair: tuple[Side, Side]) -> None:
    a, b = pair
    push(a, b, ["vips", "checks"])
    a.write_settings(FIRST.partition("[[check]]")[0].replace('name = "fast"', 'name = "faster"'))
    push(a, b, ["vips", "checks"])
    assert [vip.name for vip in b.settings().vips] == ["here", "lan", "faster"]
    assert [check.name for check in b.settings().checks] == ["disk"]


def test_a_vip_that_becomes_local_on_the_backup_stays_as_it_is_there(pair: tuple[Side, Side]) -> None:
    a, b = pair
    push(a, b, ["vips"])
    b.write_settings(SECOND + FIRST.split("[[vip]]")[1].join(["[[vip]]", "sync = false\nadvskew = 200\n"]))
    assert {vip.name: vip.advskew for vip in b.settings().vips} == {"here": 0, "lan": 200, "fast": 2}
    a.write_settings(FIRST.replace("192.0.2.1/24", "192.0.2.2/24").replace("198.51.100.1/24", "198.51.100.2/24"))
    assert push(a, b, ["vips"], overrides=["changed-there"]).result == "applied"
    vips = {vip.name: vip for vip in b.settings().vips}
    assert str(vips["lan"].addresses[0]) == "192.0.2.1/24"
    assert str(vips["fast"].addresses[0]) == "198.51.100.2/24"


def test_settings_that_would_not_be_right_there_are_refused(pair: tuple[Side, Side]) -> None:
    a, b = pair
    (b.directory / "carp.key").unlink()
    outcome = push(a, b, ["vips"])
    assert outcome.result == "refused"
    assert outcome.failure is not None
    assert "carp.key does not exist" in outcome.failure.output
    assert not (b.directory / "hacore.toml.d").exists()
    assert b.reloads == []


def test_a_node_that_refuses_to_reload_is_as_it_was(pair: tuple[Side, Side]) -> None:
    a, b = pair
    b.refuses_reload = True
    outcome = push(a, b, ["vips"])
    assert outcome.result == "undone"
    assert [vip.name for vip in b.settings().vips] == ["old", "here"]
    assert len(b.reloads) == 1  # the old settings were taken again


def test_the_peer_of_a_unicast_vip_is_each_nodes_own(pair: tuple[Side, Side]) -> None:
    a, b = pair
    unicast = FIRST.partition('[[vip]]\nname = "fast"')[0]
    a.write_settings(unicast + 'peer = "192.0.2.12"\n')
    outcome = push(a, b, ["vips"])
    assert outcome.result == "refused"
    assert outcome.failure is not None
    assert 'no "peer"' in outcome.failure.message
    b.write_settings(SECOND + unicast + 'peer = "192.0.2.11"\nadvskew = 3\n')
    assert push(a, b, ["vips"]).result == "applied"
    vip = next(vip for vip in b.settings().vips if vip.name == "lan")
    assert (str(vip.peer), vip.advskew) == ("192.0.2.11", 100)
    assert request(a, b, ["vips"]).sections == []


def test_secrets_are_not_shown(pair: tuple[Side, Side]) -> None:
    a, _ = pair
    shown = a.node.content("vips", "vips")
    assert shown is not None
    assert b'se\\"cret' not in shown
    assert own_settings.decode(shown)["vip"][1]["password"].startswith("hidden ")
    file = a.directory / "state/config"
    assert file.stat().st_mode & 0o077 == 0


def test_pushes_from_alternating_sides_leave_the_preferred_node_preferred(tmp_path: Path) -> None:
    first, second = (Side(tmp_path / name, name, VIP.format(advskew=0)) for name in ("fw1", "fw2"))
    for sender, receiver in ((first, second), (second, first), (first, second), (second, first)):
        assert push(sender, receiver, ["vips"], overrides=["changed-there"]).result in ("applied", "unchanged")
        assert [side.settings().vips[0].advskew for side in (first, second)] == [0, 100]
        assert request(sender, receiver, ["vips"]).sections == []
    first.write_settings(VIP.format(advskew=254))
    with pytest.raises(BadManifest, match="no backup's can be higher"):
        push(first, second, ["vips"])
