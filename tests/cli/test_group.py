"""The command as a whole: what it lists, what it loads, and how it fails."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from hacore.cli import main
from hacore.cli.group import COMMANDS, Place
from hacore.node.settings import DEFAULT_PATH
from tests.cli.conftest import Run

HEAVY = {"msgspec", "rich", "scapy", "pyroute2", "numpy", "asyncio", "json", "socket", "subprocess"}
PLACES = {name: place for commands in COMMANDS.values() for name, place in commands.items()}


def test_help_lists_every_command_in_its_order() -> None:
    text = CliRunner().invoke(main, ["--help"]).output
    positions = [text.index(f"\n  {name} ") for name in PLACES]
    assert positions == sorted(positions)
    assert DEFAULT_PATH in text.replace("\n", "")


def test_help_imports_no_command_and_nothing_heavy() -> None:
    program = (
        "import sys\nbefore = set(sys.modules)\nfrom hacore.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print('MODULES', *(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    modules = set(done.stdout.partition("MODULES")[2].split())
    assert modules & HEAVY == set()
    assert {name for name in modules if name.startswith("hacore")} == {
        "hacore",
        "hacore.cli",
        "hacore.cli.group",
        "hacore.errors",
    }


@pytest.mark.parametrize("place", [place for place in PLACES.values() if place.target.startswith("hacore.cli.")])
def test_the_line_of_help_is_the_commands_own(place: Place) -> None:
    module, _, attribute = place.target.partition(":")
    command = getattr(importlib.import_module(module), attribute)
    assert isinstance(command, click.Command)
    assert (command.help or "").split("\n\n")[0].replace("\n", " ") == place.help


def test_every_command_has_help(run: Run) -> None:
    for name in PLACES:
        result = run(name, "--help")
        assert result.exit_code == 0, name
        assert "Usage: hacore" in result.output


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["statsu"], "there is no command 'statsu'; did you mean status?"),
        (["qqq"], "No such command 'qqq'"),
        (["maintenance"], "Usage: hacore maintenance"),
        (["maintenance", "on"], "No such command 'on'"),
        (["demotion", "add", "x"], "Missing argument 'VALUE'"),
        (["demotion", "add", "x", "0"], "0 changes nothing"),
        (["demotion", "add", "x", "241"], "not in the range"),
        (["demotion", "add", "", "1"], "1 to 64 printable characters"),
        (["events", "--limit", "-1"], "not in the range"),
        (["status", "--json", "--watch"], "--watch is for people"),
        (["capture"], "give a capture file, or an interface"),
        (["capture", "a", "-i", "b"], "give a capture file, or an interface"),
        (["capture", "a", "--seconds", "1"], "--seconds goes with --interface"),
        (["capture", "a", "--vhid", "1"], "a key needs --vhid and a password"),
        (["capture", "a", "--password", "x"], "a key needs --vhid and a password"),
        (["capture", "a", "--vhid", "1", "--password", "x", "--address", "y"], "these make no key"),
        (["capture", "a", "--vhid", "1", "--password", "x", "--password-file", "y"], "not both"),
        (["capture", "a", "--vhid", "1", "--password-file", "/nowhere"], "No such file"),
    ],
)
def test_wrong_use_says_what_is_right(run: Run, wrong: list[str], message: str) -> None:
    result = run(*wrong)
    assert result.exit_code == 2
    assert message in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["status"],
        ["carp", "enable"],
        ["carp", "disable"],
        ["demotion", "show"],
        ["demotion", "reset"],
        ["events", "-f"],
    ],
)
def test_without_a_node_it_says_what_to_do(run: Run, tmp_path: Path, arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 69
    assert f"Error: no node runs on {tmp_path / 'run'}" in result.stderr
    assert "hacore run" in result.stderr
    assert result.stdout == ""


def test_settings_are_found_before_after_and_in_the_environment(settings_path: Path, tmp_path: Path) -> None:
    expected = f"no node runs on {tmp_path / 'run'}"
    other = ["-c", str(tmp_path / "other.toml")]
    for arguments, environment in (
        (["-c", str(settings_path), "status"], {}),
        (["status", "-c", str(settings_path)], {}),
        (["status", "--settings", str(settings_path)], {}),
        ([*other, "status", "-c", str(settings_path)], {}),
        (["status"], {"HACORE_SETTINGS": str(settings_path)}),
    ):
        result = CliRunner().invoke(main, arguments, env=environment)
        assert expected in result.stderr, arguments
    assert CliRunner().invoke(main, [*other, "status"]).exit_code == 78


def test_a_reader_that_goes_away_is_no_error(settings_path: Path) -> None:
    program = "import sys; from hacore.cli import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", program, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        os.close(os.dup(process.stdout.fileno()))
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()


def test_version(run: Run) -> None:
    assert run("version").output.startswith("hacore ")
    assert '"kernel"' in run("version", "--json").output
    assert run("--version").output.startswith("hacore ")


def _paths(command: click.Command, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = [path]
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            found += _paths(inner, (*path, name))
    return found


@pytest.mark.parametrize("width", [40, 80, 200])
def test_help_fits_the_terminal(run: Run, width: int) -> None:
    too_long = []
    for path in _paths(main):
        result = run(*path, "--help", width=width)
        assert result.exit_code == 0
        too_long += [(*path, line) for line in result.output.splitlines() if len(line.rstrip()) > width]
    # What is to be typed is not folded.
    typed = ("hacore pair join TOKEN", "hacore states make-test-certificates")
    assert [line for line in too_long if not any(each in line[-1] for each in typed)] == []


def test_a_list_of_commands_cuts_nothing_off(run: Run) -> None:
    for path in _paths(main):
        assert "..." not in run(*path, "--help", width=60).output.partition("Commands:")[2], path
