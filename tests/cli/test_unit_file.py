"""The unit file: systemd understands it, and it is walled in."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[2] / "contrib" / "systemd" / "hacore.service"


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with a command that is there."""
    path = tmp_path / "hacore.service"
    path.write_text(UNIT.read_text().replace("/usr/local/bin/hacore", str(Path(sys.executable).with_name("hacore"))))
    return path


def analyze(tool: Callable[[str], str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([tool("systemd-analyze"), *arguments], capture_output=True, text=True, check=False)


def test_systemd_takes_it_without_a_word(tool: Callable[[str], str], unit: Path) -> None:
    done = analyze(tool, "verify", "--man=no", str(unit))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_it_is_walled_in(tool: Callable[[str], str], unit: Path) -> None:
    done = analyze(tool, "security", "--offline=true", "--no-pager", str(unit))
    level = re.search(r"exposure level for hacore\.service: ([0-9.]+)", done.stdout)
    assert level is not None, done.stdout + done.stderr
    assert float(level[1]) < 4


def test_systemd_takes_the_drop_in_for_pushes_without_a_word(tool: Callable[[str], str], unit: Path) -> None:
    place = unit.with_suffix(".service.d")
    place.mkdir()
    (place / "push.conf").write_text((UNIT.parent / "push.conf").read_text())
    done = analyze(tool, "verify", "--man=no", str(unit))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["hacore-push.service", "hacore-push.timer"])
def test_the_push_on_a_timer(tool: Callable[[str], str], unit: Path, name: str) -> None:
    for each in ("hacore-push.service", "hacore-push.timer"):
        text = (UNIT.parent / each).read_text()
        (unit.parent / each).write_text(
            text.replace("/usr/local/bin/hacore", str(Path(sys.executable).with_name("hacore")))
        )
    done = analyze(tool, "verify", "--man=no", str(unit.parent / name))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.fixture
def recover(unit: Path) -> Path:
    path = unit.with_name("hacore-recover.service")
    text = (UNIT.parent / path.name).read_text()
    path.write_text(text.replace("/usr/local/bin/hacore", str(Path(sys.executable).with_name("hacore"))))
    return path


def test_the_recovery_early_in_the_boot(tool: Callable[[str], str], recover: Path) -> None:
    done = analyze(tool, "verify", "--man=no", str(recover))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    done = analyze(tool, "security", "--offline=true", "--no-pager", str(recover))
    level = re.search(r"exposure level for hacore-recover\.service: ([0-9.]+)", done.stdout)
    assert level is not None, done.stdout + done.stderr
    assert float(level[1]) < 4
