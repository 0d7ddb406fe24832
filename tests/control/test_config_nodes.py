"""A push between two real nodes, by the command line; and their control workers killed in the middle of it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator
from itertools import product
from pathlib import Path

import pytest

from hacore.node.config_revisions import KEPT
from tests.control.push_pair import PushNode, push_pair
from tests.running_node import HACORE

RULES = """
[[section]]
id = "rules"
description = "Firewall rules"
paths = ["FILES/rules.conf", "FILES/rules.d"]
check = ["test", "-e", "{root}FILES/rules.conf"]
apply = ["sh", "-c", "cp FILES/rules.conf FILES/applied; while test -e FILES/hold; do sleep 0.02; done"]
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


def revisions(node: PushNode) -> list[str]:
    return node.hacore("config", "history").stdout.splitlines()


def kill_one(nodes: tuple[PushNode, PushNode], victim: PushNode, step: str, old: str, new: str) -> None:
    """A push from fw1, in which one of the two control workers dies as soon as the push is at this step.

    It cannot be at its end by then: the apply command waits.
    """
    one, two = nodes
    fill(one, new)
    hold = two.write("hold", "")
    before, events = revisions(two), two.events("config")
    pid = victim.control_pid()
    command = [*HACORE, "-c", str(one.settings), "config", "push", "rules", "--restart", "none", "--json"]
    with one.host.start(*command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as pushing:
        assert pushing.stdout is not None
        assert any(f'"step": "{step}"' in line for line in pushing.stdout)
        os.kill(pid, signal.SIGKILL)
        hold.unlink()
        assert "applied" not in pushing.stdout.read()
    assert pushing.returncode
    for node in nodes:
        node.until(lambda node=node: node.control_pid() not in (0, pid))  # type: ignore[misc]
    if victim is one and step in ("compare", "send"):
        return  # whether fw1 had asked for the commit nobody knows
    if victim is two and step not in ("compare", "send"):
        two.until_event("config", "was interrupted", events[-1]["seq"])
    two.until(lambda: not (two.state_dir / "config/journal.json").exists())
    expected = old if victim is two else new  # what was committed goes on, whoever listens
    assert word_of(two) == expected
    assert (two.files / "applied").read_text() == f"{expected} 0\n"
    after = two.until(lambda: revisions(two))
    added = after[len(after) - (expected == new) :]
    assert after == [*before, *added][-KEPT:]
    assert "pushed by fw1" in after[-1]


def pushed(node: PushNode) -> bool:
    """False while a push that lost its sender goes on."""
    done = node.hacore("config", "push", "rules", check=False)
    assert done.returncode in (0, 69, 74, 75), done.stderr
    return done.returncode == 0


STEPS = ["compare", "send", "stage", "check", "swap", "apply"]


def play(nodes: tuple[PushNode, PushNode], kills: Iterable[tuple[int, str]]) -> None:
    one, two = nodes
    fill(one, "word0")
    assert one.push("rules")["result"] == "applied"
    for number, (victim, step) in enumerate(kills):
        kill_one(nodes, nodes[victim], step, word_of(two), f"word{number}x")
        # Whoever died: the next push goes through.
        one.until(lambda: pushed(one))
        assert word_of(two) == f"word{number}x"


def test_a_control_worker_dies_at_every_step_of_a_push_on_either_side(nodes: tuple[PushNode, PushNode]) -> None:
    play(nodes, product((0, 1), STEPS))


@pytest.mark.soak
def test_a_control_worker_dies_in_the_middle_of_many_pushes(nodes: tuple[PushNode, PushNode]) -> None:
    chance = random.Random(1)
    play(nodes, [(chance.randrange(2), chance.choice(STEPS)) for _ in range(100)])
