"""`python -m hacore.node.prepare` as the supervisor calls it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.linux.conftest import Lan
from tests.namespaces import WITHOUT_CAPABILITIES


def call(lan: Lan, request: Any) -> tuple[int, Any]:
    text = request if isinstance(request, str) else json.dumps(request)
    done = lan.fw.python("-m", "hacore.node.prepare", text=text)
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


def vip(name: str, vhid: int, **options: Any) -> dict[str, Any]:
    addresses = [f"10.1.0.{vhid}/16", f"2001:db8:1::{vhid}/64"]
    values = {"interface": "lan", "vhid": vhid, "virtual_mac": True, "addresses": addresses, "dead_time": 3.0}
    return {"name": name, "peer": None, "peer6": None, **values, **options}


def test_prepare_and_remove(lan: Lan, tmp_path: Path) -> None:
    vips = [vip("a", 1), vip("b", 2, virtual_mac=False), vip("c", 3, interface="dmz")]
    code, answer = call(lan, {"runtime_dir": str(tmp_path), "action": "prepare", "vips": vips})
    assert code == 71
    a, b, c = answer["vips"]
    index = lan.fw.index("lan")
    assert (a["device"], a["ifindex"], a["parent_ifindex"]) == ("carp1.lan", lan.fw.index("carp1.lan"), index)
    assert (a["mac"], a["parent_mac"], a["gate"]) == ("00:00:5e:00:01:01", lan.fw.mac("lan"), "adverts")
    assert a["noprefixroute"] == [True, True]
    assert a["addresses"][0] == {"address": "10.1.0.1", "prefix_length": 32, "noprefixroute": True}
    assert (b["device"], b["ifindex"], b["mac"], b["gate"]) == ("lan", index, lan.fw.mac("lan"), "none")
    assert c["error"]["type"] == "PlatformError"
    assert c["error"]["exit_code"] == 71
    code, answer = call(lan, {"runtime_dir": str(tmp_path), "action": "remove"})
    assert (code, answer) == (0, {"vips": [], "warnings": []})
    assert "carp" not in lan.fw.ip("link show")


def test_the_static_gate_can_be_forced(lan: Lan, tmp_path: Path) -> None:
    request = {"runtime_dir": str(tmp_path), "action": "prepare", "gate": "static", "vips": [vip("a", 1)]}
    code, answer = call(lan, request)
    assert code == 0
    assert answer["vips"][0]["gate"] == "static"


@pytest.mark.parametrize(
    "request_",
    ["", "[]", "{", {"action": "prepare"}, {"runtime_dir": "/nowhere", "action": "destroy"}, {"runtime_dir": 1}],
)
def test_what_is_malformed_is_an_answer_too(lan: Lan, request_: Any) -> None:
    code, answer = call(lan, request_)
    assert code in (70, 71)
    assert answer["error"]["exit_code"] == code


def test_missing_privileges_are_named(tmp_path: Path) -> None:
    text = json.dumps({"runtime_dir": str(tmp_path), "action": "prepare", "vips": [vip("a", 1)]})
    command = [*WITHOUT_CAPABILITIES, sys.executable, "-m", "hacore.node.prepare"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 77
    assert "CAP_NET_ADMIN" in json.loads(done.stdout)["error"]["message"]
