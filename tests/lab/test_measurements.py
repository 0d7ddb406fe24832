"""`lab run busy` and `lab run many`, short and small: that they measure what they say."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hacore.lab import nodes, topology


def measured(directory: Path, *arguments: str) -> dict[str, Any]:
    """What `hacore lab run ARGUMENTS --json` tells."""
    command = [sys.executable, "-c", "from hacore.cli import main; main()", "lab", "run", "--name", directory.name]
    done = subprocess.run([*command, *arguments, "--json"], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not directory.exists()
    assert nodes.marked(directory) == []
    return dict(json.loads(done.stdout))


def test_adverts_beside_a_bare_timer(directory: Path, tool: Callable[[str], str]) -> None:
    tool("nft")
    told = measured(directory, "busy", "--seconds", "3")
    (busy,) = told["busy"]
    assert told["rows"] == []
    assert busy["burden"] >= 2
    assert busy["adverts"]["count"] > 1000, "four streams, 256 adverts a second each"
    assert busy["timer"]["count"] > 300
    assert 0 < busy["timer"]["median"] <= busy["timer"]["p99"] <= busy["timer"]["p999"] <= busy["timer"]["worst"]
    assert busy["probe"]["sent"] > 1000


def test_many_vips_move_and_the_lab_has_its_own_again(directory: Path, tool: Callable[[str], str]) -> None:
    tool("nft")
    told = measured(directory, "many", "--vips", "6", "--seconds", "2")
    (many,) = told["many"]
    assert (many["vips"], many["addresses"], many["advbase"]) == (6, 8, 1)
    assert [(load["node"], load["state"]) for load in many["loads"]] == [("fw1", "MASTER"), ("fw2", "BACKUP")]
    for load in many["loads"]:
        assert [each["process"] for each in load["processes"]] == ["supervisor", "election"]
        assert all(0 <= each["cpu"] < 1 and each["resident_bytes"] > 1 << 20 for each in load["processes"])
        assert load["processes"][1]["cpu"] > 0  # the supervisor may sleep all the time
    assert [(move["deed"], move["node"]) for move in many["moves"]] == [
        ("maintenance enter", "fw2"),
        ("maintenance leave", "fw1"),
        ("crash", "fw2"),
    ]
    assert many["moves"][2]["given_up"] is None
    assert set(told["addresses"]["fw1"]) == topology.vip_addresses()


def test_every_vip_has_its_own_place_and_addresses() -> None:
    vips = topology.many_vips(topology.MOST_VIPS)
    assert len({(vip.interface, vip.vhid) for vip in vips}) == len(vips) == topology.MOST_VIPS
    assert len({vip.name for vip in vips}) == len(vips)
    assert len(topology.addresses_of(vips)) == 2 * len(vips)
    assert max(vip.vhid for vip in vips) == 255
    assert not topology.addresses_of(vips) & {
        address for hosts in topology.HOSTS.values() for address in hosts.values()
    }
