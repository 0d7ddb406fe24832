"""The file of users and tokens, sessions, and the pause after wrong passwords."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from hacore.errors import PlatformError
from hacore.web.access import AccessError, AccessFile
from hacore.web.lockout import KEPT, LOCK_TIME, WRONG_ALLOWED, Lockout
from hacore.web.sessions import IDLE, LONGEST, SESSIONS_PER_USER, Sessions
from tests.running_node import HACORE

PASSWORD = "correct horse"


@pytest.fixture
def file(tmp_path: Path) -> AccessFile:
    return AccessFile(tmp_path)


def test_a_password_is_kept_as_its_hash(file: AccessFile) -> None:
    assert file.set_user("alice", "administrator", PASSWORD)
    access = file.read()
    user = access.user_of("alice", PASSWORD)
    assert user is not None
    assert user.role == "administrator"
    assert access.user_of("alice", PASSWORD + "x") is None
    assert access.user_of("bob", PASSWORD) is None
    assert access.user_of("", "") is None
    assert PASSWORD not in file.path.read_text()
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600


def test_another_password_keeps_the_role(file: AccessFile) -> None:
    file.set_user("alice", "administrator", PASSWORD)
    before = file.mark()
    assert not file.set_user("alice", None, "another password")
    assert file.mark() != before
    assert file.read().users["alice"].role == "administrator"
    assert file.read().user_of("alice", PASSWORD) is None


@pytest.mark.parametrize(
    ("name", "password"), [("alice", "short"), ("alice", "x" * 2000), ("a b", PASSWORD), ("", PASSWORD)]
)
def test_names_and_passwords_that_will_not_do(file: AccessFile, name: str, password: str) -> None:
    with pytest.raises(AccessError):
        file.set_user(name, "viewer", password)
    assert file.read().users == {}


def test_a_token_is_shown_once(file: AccessFile) -> None:
    text = file.add_token("prometheus", "viewer")
    assert text not in file.path.read_text()
    found = file.read().token_of(text)
    assert found is not None
    assert (found.name, found.role) == ("prometheus", "viewer")
    assert file.read().token_of(text + "x") is None
    assert file.read().token_of("") is None
    with pytest.raises(AccessError, match="remove it first"):
        file.add_token("prometheus", "viewer")
    file.remove_token("prometheus")
    assert file.read().token_of(text) is None


def test_what_is_not_there_cannot_be_removed(file: AccessFile) -> None:
    file.set_user("alice", "viewer", PASSWORD)
    with pytest.raises(AccessError, match="there are: alice"):
        file.remove_user("bob")
    with pytest.raises(AccessError, match="there are: none"):
        file.remove_token("x")


def test_a_damaged_file_lets_nobody_in(file: AccessFile) -> None:
    file.set_user("alice", "viewer", PASSWORD)
    file.path.write_text("{")
    with pytest.raises(PlatformError, match="damaged"):
        file.read()


# Sessions; seconds are literal.


def test_a_session_ends_when_idle_and_in_any_case() -> None:
    sessions = Sessions()
    cookie = sessions.open("alice", 1.0, "::1", 100.0)
    assert sessions.find("", 100.0) is None
    assert sessions.find(cookie + "x", 100.0) is None
    found = sessions.find(cookie, 100.0 + IDLE)
    assert found is not None
    assert found.user == "alice"
    assert sessions.find(cookie, 100.0 + 2 * IDLE + 1) is None
    now = 100.0
    cookie = sessions.open("alice", 1.0, "::1", now)
    while now < 100.0 + LONGEST - IDLE:
        now += IDLE
        assert sessions.find(cookie, now) is not None
    assert sessions.find(cookie, 100.0 + LONGEST + 1) is None


def test_sessions_of_a_user_are_few_and_end_with_the_password() -> None:
    sessions = Sessions()
    cookies = [sessions.open("alice", 1.0, "::1", float(number)) for number in range(SESSIONS_PER_USER + 1)]
    assert sessions.find(cookies[0], 30.0) is None
    kept = sessions.find(cookies[1], 30.0)
    assert kept is not None
    other = sessions.open("bob", 1.0, "::1", 30.0)
    sessions.keep({"alice": 2.0, "bob": 1.0})
    assert kept.is_over(30.0)
    assert sessions.find(cookies[1], 30.0) is None
    assert sessions.find(other, 30.0) is not None


def test_a_form_brings_another_text_each_time() -> None:
    sessions = Sessions()
    one = sessions.find(sessions.open("alice", 1.0, "::1", 0.0), 0.0)
    other = sessions.find(sessions.open("alice", 1.0, "::1", 0.0), 0.0)
    assert one is not None
    assert other is not None
    first, second = one.masked_token(), one.masked_token()
    assert first != second
    assert one.takes(first)
    assert one.takes(second)
    assert not other.takes(first)
    for wrong in ("", "x", "ä", first[:-4], "A" * 88):
        assert not one.takes(wrong)


def test_ten_wrong_ones_are_a_pause() -> None:
    lockout = Lockout()
    for number in range(WRONG_ALLOWED - 1):
        lockout.wrong(["a", "u"], float(number))
    assert lockout.locked_for(["a", "u"], 9.0) == 0.0
    lockout.wrong(["a"], 10.0)
    assert lockout.locked_for(["a", "u"], 10.0) == LOCK_TIME
    assert lockout.locked_for(["u"], 10.0) == 0.0
    assert lockout.locked_for(["a"], 10.0 + LOCK_TIME / 2) == LOCK_TIME / 2
    assert lockout.locked_for(["a"], 10.0 + LOCK_TIME) == 0.0
    lockout.right(["a"])
    assert lockout.locked_for(["a"], 10.0) == 0.0


def test_a_network_of_senders_costs_little_memory() -> None:
    lockout = Lockout()
    for number in range(KEPT + 100):
        lockout.wrong([f"address {number}"], 0.0)
    assert len(lockout._wrong) == KEPT


# The command line


def hacore(directory: Path, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    command = [*HACORE, "-c", str(directory / "hacore.toml"), "web", *arguments]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)


def test_the_commands(tmp_path: Path) -> None:
    (tmp_path / "hacore.toml").write_text('[node]\nname = "fw1"\nstate_dir = "state"\n')
    assert hacore(tmp_path, "user", "list").stdout == "none\n"
    done = hacore(tmp_path, "user", "add", "alice", "--role", "administrator", text=f"{PASSWORD}\n")
    assert done.stdout == "alice was added (administrator)\n", done.stderr
    done = hacore(tmp_path, "user", "add", "bob", text="short\n")
    assert (done.returncode, "8 to 1024 characters" in done.stderr) == (65, True)
    assert hacore(tmp_path, "user", "add", "bob", text=f"{PASSWORD}\n").stdout == "bob was added (viewer)\n"
    assert "administrator" in hacore(tmp_path, "user", "list").stdout
    found = json.loads(hacore(tmp_path, "user", "list", "--json").stdout)
    assert [(one["name"], one["role"]) for one in found] == [("alice", "administrator"), ("bob", "viewer")]
    assert hacore(tmp_path, "user", "remove", "bob").stdout == "bob was removed\n"
    assert hacore(tmp_path, "user", "remove", "bob").returncode == 65
    token = hacore(tmp_path, "token", "add", "prometheus").stdout.strip()
    assert AccessFile(tmp_path / "state").read().token_of(token) is not None
    assert "prometheus" in hacore(tmp_path, "token", "list").stdout
    assert token not in hacore(tmp_path, "token", "list", "--json").stdout
    assert hacore(tmp_path, "token", "remove", "prometheus").returncode == 0


def test_the_command_line_loads_no_server() -> None:
    code = "import hacore.cli.web, hacore.web.access, sys; print({'aiohttp', 'jinja2'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
