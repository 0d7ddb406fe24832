"""The probes of `doctor`."""

from __future__ import annotations

import json
import subprocess
import sys

from hacore.linux import features, libc
from tests.linux.conftest import Lan
from tests.namespaces import WITHOUT_CAPABILITIES

_PROBE = "import json; from hacore.linux import features; print(json.dumps(features.probe_all()))"


def test_as_root_everything_but_the_clock_is_there(lan: Lan) -> None:
    with lan.fw.entered():
        before = lan.fw.ip("link show"), lan.fw.run("nft", "list", "ruleset")
        found = {one.name: one for one in features.probe_all()}
        assert (lan.fw.ip("link show"), lan.fw.run("nft", "list", "ruleset")) == before
    assert [one for one in found.values() if not one.ok and one.name != "clock"] == []
    assert all(one.ok != bool(one.remedy) for one in found.values())
    assert found["clock"].ok == libc.clock_status().synchronised


def test_without_privileges_each_refusal_says_what_to_do() -> None:
    command = [*WITHOUT_CAPABILITIES, sys.executable, "-c", _PROBE]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = {name: (ok, remedy) for name, ok, _, remedy in json.loads(done.stdout)}
    for name in ("CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_SYS_NICE", "CAP_IPC_LOCK", "macvlan", "SCHED_RR", "memory lock"):
        assert found[name][0] is False
        assert found[name][1]
