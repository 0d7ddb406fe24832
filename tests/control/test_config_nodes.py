"""A push between two real nodes, by the command line; and their control workers killed in the middle of it."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hacore.control.problems import ApiError
from hacore.errors import HacoreError
from tests.control.push_pair import PushNode, push_pair

RULES = """
[[section]]
id = "rules"
description = "Firewall rules"
paths = ["FILES/rules.conf", "FILES/rules.d"]
check = ["test", "-e", "{root}FILES/rules.conf"]
apply = ["cp", "FILES/rules.conf", "FILES/applied"]
[[section]]
id = "vips"
"""
FILES = 60


@pytest.fixture
def nodes(tmp_path: Path, tool: Callable[[str], str]) -> Iterator[tuple[PushNode, PushNode]]:
    tool("nft")
    with push_pair(tmp_path, RULES) as made:
        yield made


def test_the_administrators_way(nodes: tuple[PushNode, PushNode]) -> None:
    one, two = nodes
    one.write("rules.conf", "accept\n")
    one.write("rules.d/more", "more\n")
    two.write("rules.conf", "drop\n")
    shown = one.hacore("config", "diff", check=False)
    assert shown.returncode == 1
    assert "-drop\n+accept\n" in shown.stdout
    assert "vips: in sync" in shown.stdout
    assert one.hacore("config", "push", "--dry-run").stdout == "checked on fw2: it would do; nothing was changed\n"
    done = one.hacore("config", "push")
    assert done.stdout == "applied on fw2 as revision 2\n"
    assert "swapping rules" in done.stderr
    assert (two.files / "rules.conf").read_text() == (two.files / "applied").read_text() == "accept\n"
    assert one.hacore("config", "push").stdout == "nothing to do: fw2 has all of it\n"
    assert "rules  in sync; revision 2, " in one.hacore("config", "status").stdout
    assert one.hacore("config", "diff").returncode == 0
    assert "pushed by fw1" in one.hacore("config", "history", "--peer", "fw2").stdout
    assert two.hacore("config", "show", "2").stdout.count("rules.d/more") == 1
    assert "+accept" in two.hacore("config", "diff", "1", "2", check=False).stdout
    two.hacore("config", "roll-back", "1")
    assert (two.files / "rules.conf").read_text() == "drop\n"
    refused = one.hacore("config", "push", check=False)
    assert (refused.returncode, one.state(), two.state()) == (0, "MASTER", "BACKUP")
    two.until_event("config", "roll-back of rules")
    (two.files / "rules.conf").write_text("by hand\n")
    one.write("rules.conf", "newer\n")
    refused = one.hacore("config", "push", check=False)
    assert refused.returncode == 75
    assert "--even-if-changed-there" in refused.stderr
    assert one.hacore("config", "push", "--even-if-changed-there").returncode == 0
    backup = two.hacore("config", "push", check=False)
    assert backup.returncode == 75
    assert "fw2 is not MASTER of lan (BACKUP)" in backup.stderr
    quiet = two.hacore("config", "push", "--if-master")
    assert (quiet.stdout, quiet.stderr) == ("", "")


def fill(node: PushNode, word: str) -> None:
    node.write("rules.conf", f"{word} 0\n")
    for number in range(FILES):
        node.write(f"rules.d/{number % 7}/{number}", f"{word} {number}\n" * 200)


def word_of(node: PushNode) -> str:
    word = (node.files / "rules.conf").read_text().split()[0]
    found = [path for path in (node.files / "rules.d").rglob("*") if path.is_file()]
    assert len(found) == FILES
    for path in found:
        assert path.read_text().startswith(word), path
        assert not path.name.startswith(".hacore")
    return word


def kill_one(nodes: tuple[PushNode, PushNode], chance: random.Random, old: str, new: str) -> str:
    """A push from fw1, in which one of the two control workers dies at some moment."""
    one, two = nodes
    fill(one, new)
    victim = chance.choice(nodes)
    pid = victim.control_pid()
    problems: list[str] = []

    def push() -> None:
        try:
            one.hacore("config", "push", "rules", "--restart", "none", check=False)
        except (HacoreError, ApiError) as error:
            problems.append(str(error))

    pushing = threading.Thread(target=push)
    pushing.start()
    time.sleep(chance.uniform(0.1, 0.8))
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    pushing.join()
    for node in nodes:
        node.until(lambda node=node: node.control_pid() not in (0, pid))  # type: ignore[misc]
    two.until(lambda: two.hacore("config", "status", check=False).returncode in (0, 1))
    two.until(lambda: not (two.state_dir / "config/journal.json").exists())
    word = word_of(two)
    assert word in (old, new)
    assert (two.files / "applied").read_text() == f"{word} 0\n"
    history = two.hacore("config", "history", "-n", "1").stdout
    assert "pushed by fw1" in history
    return word


def pushed(node: PushNode) -> bool:
    """False while a push that lost its sender goes on."""
    done = node.hacore("config", "push", "rules", check=False)
    assert done.returncode in (0, 69, 74, 75), done.stderr
    return done.returncode == 0


def play(nodes: tuple[PushNode, PushNode], seeds: range) -> None:
    one, two = nodes
    fill(one, "word0")
    assert one.push("rules")["result"] == "applied"
    word = word_of(two)
    for seed in seeds:
        word = kill_one(nodes, random.Random(seed), word, f"word{seed}x")
        # Whoever died: the next push goes through.
        one.until(lambda: pushed(one))
        word = word_of(two)


def test_a_control_worker_dies_in_the_middle_of_a_push(nodes: tuple[PushNode, PushNode]) -> None:
    play(nodes, range(1, 11))


@pytest.mark.soak
def test_a_control_worker_dies_in_the_middle_of_many_pushes(nodes: tuple[PushNode, PushNode]) -> None:
    play(nodes, range(100, 200))
