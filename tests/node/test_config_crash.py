"""A worker that is killed at each step of a push: the next one finds the node entirely old or entirely new."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hacore.configsync.plan import STEPS
from tests.node.config_pair import Side, push

SECTION = """
[[section]]
id = "rules"
paths = ["/etc/rules.conf", "/etc/rules.d"]
check = ["test", "-e", "{root}/etc/rules.conf"]
apply = ["sh", "-c", "cat TREE/etc/rules.conf > TREE/../applied"]
services = ["one"]
[[service]]
id = "one"
unit = "one.service"
"""
FILES = 40


def vip(name: str) -> str:
    return f'[[vip]]\nname = "{name}"\ninterface = "lan0"\nvhid = 1\npassword = "x"\naddresses = ["192.0.2.1/24"]\n'


def side(directory: Path, name: str) -> Side:
    made = Side(directory, name, "")
    made.write_settings(SECTION.replace("TREE", str(made.tree)) + vip(name))
    return made


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Side, Side]]:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for name, letter in (("fw1", "a"), ("fw2", "b")):
        directory = tmp_path / letter
        text = SECTION.replace("TREE", f"{directory}/tree") + vip(name)
        Side(directory, name, text).node.close()
    sides = (Side(tmp_path / "a", "fw1", ""), Side(tmp_path / "b", "fw2", ""))
    fill(sides[1], "old")
    (sides[1].directory / "applied").write_text("old 0\n")
    fill(sides[0], "new")
    yield sides
    for each in sides:
        each.node.close()


def fill(one: Side, word: str) -> None:
    one.write("/etc/rules.conf", f"{word} 0\n")
    for number in range(FILES):
        one.write(f"/etc/rules.d/{number % 5 if word == 'old' else number % 3}/{number}", f"{word} {number}\n" * 50)
    one.write(f"/etc/rules.d/only-{word}", word)
    one.write(f"/etc/rules.d/kind{'/deep' if word == 'old' else ''}", word)


def whole(one: Side) -> str:
    """Which state a node has; fails where it is neither."""
    content = one.read("/etc/rules.conf")
    word = content.split()[0]
    paths = [path for path in one.tree.rglob("*") if path.is_file()]
    assert not [path for path in paths if path.name.startswith(".hacore")]
    for path in paths:
        assert path.read_text().startswith(word), path
    assert len(paths) == FILES + 3
    names = [each.name for each in one.settings().vips]
    assert names == (["fw1"] if word == "new" else ["fw2"])
    return word


VICTIM = """
import os, signal, sys
from pathlib import Path
from tests.node.config_pair import Side, push
directory, step = Path(sys.argv[1]), sys.argv[2]
def written(one):
    if one == step:
        os.kill(os.getpid(), signal.SIGKILL)
a, b = Side(directory / "a", "fw1", ""), Side(directory / "b", "fw2", "", written)
if step == "undoing":
    b.failing_services = {"one": "does not start"}
print("ready", flush=True)
push(a, b, ["rules", "vips"])
print("done", flush=True)
"""


def victim(directory: Path, step: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", VICTIM, str(directory), step], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_each_step(pair: tuple[Side, Side], tmp_path: Path, step: str) -> None:
    a, b = pair
    for each in pair:
        each.node.close()
    process = victim(tmp_path, step)
    output, _ = process.communicate()
    if step == "undone":
        assert b"done" in output  # nothing failed in this one
        b.node = b.start()
        assert whole(b) == "new"
        return
    assert process.returncode == -signal.SIGKILL
    b.node = b.start()
    assert b.node.recover() == []
    expected = "new" if step == "done" else "old"
    assert whole(b) == expected
    assert (b.directory / "applied").read_text() == f"{expected} 0\n"
    assert b.node.parts.journal.record is None
    assert len(b.history) == 1
    assert {"opened": "nothing had changed", "done": "revision 2 is applied"}.get(step, "") in b.history[0]
    # It can go on from there.
    a.node = a.start()
    outcome = push(a, b, ["rules", "vips"])
    assert outcome.result == "applied" or (step == "done" and outcome.result == "unchanged")
    assert whole(b) == "new"


def kill_at_random(pair: tuple[Side, Side], tmp_path: Path, seed: int) -> str:
    b = pair[1]
    chance = random.Random(seed)
    process = victim(tmp_path, "never")
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    time.sleep(chance.uniform(0, 0.15))
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    b.node = b.start()
    assert b.node.recover() == []
    word = whole(b)
    last = b.node.parts.revisions.last()
    assert (last is not None and last.kind == "push") == (word == "new")
    return word


@pytest.mark.parametrize("seed", range(10))
def test_killed_at_random(pair: tuple[Side, Side], tmp_path: Path, seed: int) -> None:
    for each in pair:
        each.node.close()
    kill_at_random(pair, tmp_path, seed)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10, 110))
def test_killed_at_random_often(pair: tuple[Side, Side], tmp_path: Path, seed: int) -> None:
    for each in pair:
        each.node.close()
    kill_at_random(pair, tmp_path, seed)


def test_a_command_that_outlives_its_worker_is_ended(pair: tuple[Side, Side], tmp_path: Path) -> None:
    b = pair[1]
    mark = tmp_path / "mark"
    text = b.settings_file.read_text()
    script = f"[ -e {mark} ] || {{ touch {mark}; echo $$ > {mark}; sleep 300; }}"
    b.settings_file.write_text(
        "".join(
            f'apply = ["sh", "-c", "{script}"]\n' if line.startswith("apply") else line
            for line in text.splitlines(keepends=True)
        )
    )
    for each in pair:
        each.node.close()
    process = victim(tmp_path, "never")
    while not (mark.exists() and mark.read_text()):
        time.sleep(0.01)
    process.kill()
    process.communicate()
    pid = int(mark.read_text())
    b.node = b.start()
    assert b.node.recover() == []
    assert not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text()
    assert whole(b) == "old"
    assert f"process {pid}" in b.history[0]
