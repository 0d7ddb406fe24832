"""A lab without root: in a user namespace where there are some, a clear refusal elsewhere, and read-only sysctls."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

LAB = """
import json, pathlib, sys
from hacore.errors import HacoreError
from hacore.lab import laboratory, rights, topology
try:
    with laboratory.temporary(pathlib.Path(sys.argv[1]), profile="fast", preempt=True, start=False) as lab:
        held = {name: sorted(addresses) for name, addresses in lab.holders().items()}
        lab.faults.partition()
        print(json.dumps({"rights": lab.record.rights, "realtime": rights.real_time(), "held": held}))
except HacoreError as error:
    print(json.dumps({"error": type(error).__name__, "message": str(error), "exit_code": error.exit_code}))
"""


def lab_under(directory: Path, *prefix: str) -> dict[str, object]:
    """What LAB says when it is run after `prefix`."""
    done = subprocess.run(
        [*prefix, sys.executable, "-c", LAB, str(directory)], check=True, stdout=subprocess.PIPE, text=True
    )
    return dict(json.loads(done.stdout))


@pytest.fixture
def setpriv(tool: Callable[[str], str]) -> str:
    return tool("setpriv")


def test_without_the_right_to_make_namespaces_it_is_in_a_user_namespace(directory: Path, setpriv: str) -> None:
    found = lab_under(directory, setpriv, "--bounding-set=-sys_admin", "--inh-caps=-sys_admin")
    assert found == {"rights": "user", "realtime": False, "held": {"fw1": [], "fw2": []}}
    assert not directory.exists()


def test_without_any_right_the_refusal_says_what_to_do(directory: Path, setpriv: str) -> None:
    found = lab_under(directory, setpriv, "--bounding-set=-all", "--inh-caps=-all")
    assert found["error"] == "PrivilegeError"
    assert found["exit_code"] == 77
    assert "sudo" in str(found["message"])
    assert "CAP_SYS_ADMIN" in str(found["message"])
    assert not directory.exists()


def test_sysctls_that_a_container_has_read_only_are_unlocked_for_the_lab_alone(directory: Path, tmp_path: Path) -> None:
    script = tmp_path / "readonly.sh"
    script.write_text(
        "mount --make-rprivate / && mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys || exit 1\n"
        '"$@" || exit 2\n'
        "test ! -w /proc/sys/net/ipv4/ip_forward\n",
        encoding="ascii",
    )
    found = lab_under(directory, "unshare", "--mount", "sh", str(script))
    assert found == {"rights": "root", "realtime": True, "held": {"fw1": [], "fw2": []}}
