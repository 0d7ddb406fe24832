"""A worker that is killed at each step of a push: the next one finds the node entirely old or entirely new."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hacore.configsync.plan import STEPS
from hacore.node.config_early import recover_early
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


@contextmanager
def two_sides(directory: Path) -> Iterator[tuple[Side, Side]]:
    for name, letter in (("fw1", "a"), ("fw2", "b")):
        (directory / letter).mkdir()
        text = SECTION.replace("TREE", f"{directory / letter}/tree") + vip(name)
        Side(directory / letter, name, text).node.close()
    sides = (Side(directory / "a", "fw1", ""), Side(directory / "b", "fw2", ""))
    fill(sides[1], "old")
    (sides[1].directory / "applied").write_text("old 0\n")
    fill(sides[0], "new")
    yield sides
    for each in sides:
        each.node.close()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Side, Side]]:
    with two_sides(tmp_path) as sides:
        yield sides


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
import json, os, signal, sys
from collections import Counter
from pathlib import Path
from hacore.node.config_early import recover_early
from tests.node.config_pair import Side, push
directory, work, step, kind, number = Path(sys.argv[1]), *sys.argv[2:5], int(sys.argv[5])
changing = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.chown", "os.symlink", "subprocess.Popen"}
seen, watching = Counter(), False
def heard(event, arguments):
    # Of each operation before it is carried out.
    writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    if watching and (event in changing or writes) and "digests" not in str(arguments[0]):
        seen.update([event, "any"])
        if seen[kind] == number and kind in (event, "any"):
            os.kill(os.getpid(), signal.SIGKILL)
def written(one):
    global watching
    watching = True
    if one == step:
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(heard)
a, b = Side(directory / "a", "fw1", ""), Side(directory / "b", "fw2", "", written)
if step == "undoing":
    b.failing_services = {"one": "does not start"}
print("ready", flush=True)
if work == "push":
    push(a, b, ["rules", "vips"])
elif work == "early":
    b.node.close()
    watching = True
    recover_early(b.directory / "state", b.settings, root=str(b.tree))
else:
    watching = True
    b.node.recover()
print(json.dumps(seen), flush=True)
"""


def victim(
    directory: Path, *, work: str = "push", step: str = "", kind: str = "any", number: int = 0
) -> subprocess.Popen[bytes]:
    """A process that pushes or recovers (early, or as the node does), and is killed.

    That is when a step is written, or just before an operation on files: the one of this number, of this kind (an
    audit event of Python, or "any" that changes something), since the push was opened; number 0 lets it go on to its
    end, where it says how many there were of each.
    """
    words = [str(directory), work, step, kind, str(number)]
    return subprocess.Popen(
        [sys.executable, "-c", VICTIM, *words], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )


def killed(process: subprocess.Popen[bytes]) -> bool:
    """Whether it was, once it is at its end."""
    process.communicate()
    return process.returncode == -signal.SIGKILL


def moments(process: subprocess.Popen[bytes]) -> dict[str, int]:
    """How many operations of each kind there are to be killed at."""
    output, _ = process.communicate()
    found: dict[str, int] = json.loads(output.splitlines()[-1])
    return found


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_each_step(pair: tuple[Side, Side], tmp_path: Path, step: str) -> None:
    a, b = pair
    for each in pair:
        each.node.close()
    process = victim(tmp_path, step=step)
    if step == "undone":
        assert not killed(process)  # nothing failed in this one
        b.node = b.start()
        assert whole(b) == "new"
        return
    assert killed(process)
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


@pytest.fixture(scope="module")
def in_push(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """The moments of a push that nobody kills."""
    directory = tmp_path_factory.mktemp("push")
    with two_sides(directory):
        pass
    return moments(victim(directory))


@pytest.fixture(scope="module")
def in_recovery(tmp_path_factory: pytest.TempPathFactory, in_push: dict[str, int]) -> dict[str, int]:
    """The moments of a recovery, after the push was killed in the middle of its renames."""
    directory = tmp_path_factory.mktemp("recovery")
    with two_sides(directory):
        pass
    assert killed(victim(directory, kind="os.rename", number=in_push["os.rename"] // 2))
    return moments(victim(directory, work="recover"))


def recovered(b: Side) -> str:
    """What fw2 has after the next worker has recovered: entirely the one or the other, and it says which."""
    b.node = b.start()
    interrupted = b.node.unfinished
    assert b.node.recover() == []
    word = whole(b)
    last = b.node.parts.revisions.last()
    assert (last is not None and last.kind == "push") == (word == "new")
    assert (b.directory / "applied").read_text() == f"{word} 0\n"
    assert len(b.history) == interrupted
    assert not interrupted or ("is applied" in b.history[0]) == (word == "new")
    return word


def kill_at_random(b: Side, directory: Path, chance: random.Random, kind: str, there: dict[str, int]) -> None:
    assert killed(victim(directory, kind=kind, number=chance.randint(1, there[kind])))
    recovered(b)


@pytest.mark.parametrize("kind", ["any", "os.rename"])
@pytest.mark.parametrize("seed", range(5))
def test_killed_at_random(
    pair: tuple[Side, Side], tmp_path: Path, in_push: dict[str, int], seed: int, kind: str
) -> None:
    for each in pair:
        each.node.close()
    kill_at_random(pair[1], tmp_path, random.Random(seed), kind, in_push)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10, 110))
def test_killed_at_random_often(pair: tuple[Side, Side], tmp_path: Path, in_push: dict[str, int], seed: int) -> None:
    for each in pair:
        each.node.close()
    kill_at_random(pair[1], tmp_path, random.Random(seed), "any", in_push)


@pytest.mark.parametrize("kind", ["any", "os.rename"])
@pytest.mark.parametrize("seed", range(3))
def test_killed_in_the_recovery_too(
    pair: tuple[Side, Side],
    tmp_path: Path,
    in_push: dict[str, int],
    in_recovery: dict[str, int],
    seed: int,
    kind: str,
) -> None:
    for each in pair:
        each.node.close()
    chance = random.Random(seed)
    assert killed(victim(tmp_path, kind="os.rename", number=in_push["os.rename"] // 2))
    assert killed(victim(tmp_path, work="recover", kind=kind, number=chance.randint(1, in_recovery[kind])))
    assert recovered(pair[1]) == "old"


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
    process = victim(tmp_path)
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


def test_the_early_part_of_a_recovery_killed_at_each_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a power cut in the middle of the renames; another one follows, and then the node."""
    monkeypatch.setitem(globals(), "FILES", 3)
    there, kept = tmp_path / "there", tmp_path / "kept"

    def put(source: Path, target: Path) -> None:
        subprocess.run(["rm", "-rf", target], check=True)
        subprocess.run(["cp", "-a", source, target], check=True)

    there.mkdir()
    with two_sides(there):
        pass
    put(there, kept)
    renames = moments(victim(there))["os.rename"]
    put(kept, there)
    assert killed(victim(there, kind="os.rename", number=renames // 2))
    journal = there / "b/state/config/journal.json"
    journal.write_text(json.dumps(json.loads(journal.read_bytes()) | {"boot": "another"}))
    put(there, kept)
    count = moments(victim(there, work="early"))["any"]
    assert count > 20
    for number in range(1, count + 1):
        put(kept, there)
        assert killed(victim(there, work="early", number=number))
        b = Side(there / "b", "fw2", "")
        b.node.close()
        recover_early(b.directory / "state", b.settings, root=str(b.tree))
        assert whole(b) == "old", number
        assert recovered(b) == "old", number
        b.node.close()
