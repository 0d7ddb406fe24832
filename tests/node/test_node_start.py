"""`hacore run` from its first check to its last trace: what it refuses, what it leaves, what it clears up."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from tests.namespaces import Host, wait_until
from tests.running_node import HACORE, PATIENCE, RunningNode, Segment, kernel_view, vip, wan


@pytest.fixture
def node(segment: Segment) -> RunningNode:
    """Not started; with a second interface, `wan`, besides `lan`."""
    made = segment.node("fw1", 11)
    segment.connect(made.host, 11, "wan")
    return made


def run_to_its_end(node: RunningNode, *before: str, host: Host | None = None) -> subprocess.CompletedProcess[str]:
    """`hacore run` that is expected to refuse; `before` is what it is run by."""
    command = ["ip", "netns", "exec", (host or node.host).name, *before, *HACORE, "run", "-c", str(node.settings)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=node.environment())


def assert_refused(node: RunningNode, exit_code: int, *says: str, before: tuple[str, ...] = ()) -> None:
    """It ends so, says all of this, and nothing on the host is another than before."""
    view = kernel_view(node.host)
    done = run_to_its_end(node, *before)
    assert done.returncode == exit_code, done.stderr
    for text in says:
        assert text in done.stderr
    assert "Traceback" not in done.stderr
    assert kernel_view(node.host) == view
    assert not node.state_dir.exists()


def test_wrong_settings_name_every_error(node: RunningNode) -> None:
    node.configure(
        vip("lan", vhid=0, advskew=255),
        vip("two", addresses=["10.1.0.0/16", "10.1.255.255/16"]),
        vip("three", vhid=7, addresses=["10.1.0.300/16"], peer="2001:db8:1::12"),
        vip("four", vhid=8, addresses=["10.1.0.4/16"]),
        vip("five", vhid=8, addresses=["10.1.0.5/16"], colour="red"),
        preempt="perhaps",  # type: ignore[arg-type]
        seal="require",
    )
    assert_refused(
        node, 78,
        'carp.preempt: must be true or false', 'carp.seal',
        'vip "lan": vhid: must be a whole number from 1 to 255, not 0', 'vip "lan": advskew',
        'vip "two": addresses[1]', "is the network's address",
        'vip "two": addresses[2]', "is the network's broadcast address",
        'vip "three": addresses[1]', 'vip "three": peer',
        'vip "five": vhid: 8 on lan is taken by vip "four"', 'vip "five": colour',
    )  # fmt: skip
    assert not node.runtime_dir.exists()


def test_a_missing_interface_is_named_beside_the_other_errors(node: RunningNode) -> None:
    node.configure(vip(), vip("dmz", interface="dmz", vhid=3, addresses=["10.3.0.1/16"]))
    assert_refused(node, 78, 'vip "dmz": interface: there is no interface "dmz" on this machine; there are: lan, wan')
    node.configure(vip(advskew=300), vip("dmz", interface="dmz", vhid=3, addresses=["10.3.0.1/16"]))
    assert_refused(node, 78, 'vip "dmz": interface: there is no interface "dmz"', 'vip "lan": advskew')
    assert not node.runtime_dir.exists()


def test_no_settings_at_all(node: RunningNode) -> None:
    assert_refused(node, 78, "does not exist")


@pytest.mark.parametrize("missing", ["NET_ADMIN", "NET_RAW"])
def test_a_missing_privilege_is_named(node: RunningNode, tool: Callable[[str], str], missing: str) -> None:
    node.configure(vip())
    without = (tool("setpriv"), f"--bounding-set=-{missing.lower()}", f"--inh-caps=-{missing.lower()}")
    assert_refused(node, 77, f"CAP_{missing}", "AmbientCapabilities", before=without)


def test_a_second_node_is_refused(segment: Segment, node: RunningNode) -> None:
    """On the same runtime_dir, from this network namespace or another; and on another in the same namespace."""
    node.configure(vip())
    node.start()
    node.until_state("MASTER")
    since = node.last_event()
    again = run_to_its_end(node)
    assert (again.returncode, str(node.process and node.process.pid) in again.stderr) == (75, True), again.stderr
    elsewhere = run_to_its_end(node, host=segment.host("other", 12))
    assert elsewhere.returncode == 75, elsewhere.stderr
    second = RunningNode(node.host, node.directory.with_name("second"))
    second.configure(vip(advskew=1))
    beside = run_to_its_end(second)
    assert beside.returncode == 75, beside.stderr
    assert "network namespace" in beside.stderr
    assert node.events(after=since) == []
    assert node.state() == "MASTER"
    assert node.held() == {"10.1.0.1", "2001:db8:1::1"}


def test_nothing_is_left_after_the_end(node: RunningNode) -> None:
    view = kernel_view(node.host)
    node.configure(vip(), wan(), vip("own", vhid=3, virtual_mac=False, addresses=["10.1.0.3/16"]))
    node.start()
    for name in ("lan", "wan", "own"):
        node.until_state("MASTER", name)
    assert kernel_view(node.host) != view
    assert node.stop() == 0
    assert kernel_view(node.host) == view
    assert node.processes() == []
    assert not (node.runtime_dir / "hacore.sock").exists()


def test_what_a_killed_node_left_is_cleared(node: RunningNode) -> None:
    """Its addresses go by themselves; the next start takes away the rest, also what the settings no longer have."""
    view = kernel_view(node.host)
    node.configure(vip(), wan(), vip("own", vhid=3, virtual_mac=False, addresses=["10.1.0.3/16"]))
    node.start()
    for name in ("lan", "wan", "own"):
        node.until_state("MASTER", name)
    node.kill()
    addresses = ["10.1.0.1", "10.2.0.1", "2001:db8:1::1", "2001:db8:2::1", "10.1.0.3"]
    assert node.held(addresses)
    node.configure(vip("dmz", vhid=9, addresses=["10.1.0.9/16"]))
    node.start()
    assert node.held(addresses) == set()
    devices = [name for name in links(node.host) if name.startswith("carp")]
    assert devices == ["carp9.lan"]
    assert "lease" in node.host.run("nft", "list", "table", "netdev", "hacore")
    assert node.stop() == 0
    assert kernel_view(node.host) == view


def test_the_addresses_of_a_killed_node_expire(node: RunningNode) -> None:
    node.configure(vip())
    node.start()
    node.until_state("MASTER")
    node.kill()
    wait_until(lambda: node.held() == set(), PATIENCE)


def links(host: Host) -> dict[str, Any]:
    return kernel_view(host)["links"]  # type: ignore[no-any-return]
