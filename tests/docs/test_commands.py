"""The commands in the documents: the shell takes them, and hacore knows them with these options."""

from __future__ import annotations

import shlex
import subprocess
import tomllib
from pathlib import Path

import click
import pytest

from hacore.cli.group import main
from tests.docs import markdown

ALL = [(document, block) for document in markdown.DOCUMENTS for block in markdown.blocks(document)]


def _named(language: str) -> list[tuple[Path, markdown.Block]]:
    return [(document, block) for document, block in ALL if block.language == language]


def _id(value: object) -> str:
    return value.name if isinstance(value, Path) else f"line {value.line}" if isinstance(value, markdown.Block) else ""


@pytest.mark.parametrize(("document", "block"), _named("sh"), ids=_id)
def test_shell_understands(document: Path, block: markdown.Block) -> None:
    done = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{document.name}, line {block.line}: {done.stderr}"


def _commands(text: str) -> list[list[str]]:
    """The words of each `hacore` in a script; what is only told of (in a file's text) is left out."""
    found = []
    for line in text.splitlines():
        words = shlex.split(line, comments=True)
        while words:
            end = next((index for index, word in enumerate(words) if word in ("&&", "||", ";", "|")), len(words))
            one, words = words[:end], words[end + 1 :]
            if one and one[0].rsplit("/", 1)[-1] == "hacore":
                found.append(one[1:])
    return found


def _resolve(words: list[str]) -> None:
    """Parses as the program would; nothing is run."""
    command: click.Command = main
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        inner = command.get_command(click.Context(command), words[0])
        if inner is None:
            raise click.UsageError(f"no command {words[0]}")
        command, words = inner, words[1:]
    command.make_context(command.name or "hacore", words)


@pytest.mark.parametrize(("document", "block"), _named("sh"), ids=_id)
def test_hacore_knows_its_commands(document: Path, block: markdown.Block) -> None:
    for words in _commands(block.text.replace("\\\n", " ")):
        try:
            _resolve(words)
        except click.exceptions.Exit:
            continue  # --help, --version
        except click.ClickException as error:
            pytest.fail(f"{document.name}, line {block.line}: hacore {' '.join(words)}: {error.format_message()}")


@pytest.mark.parametrize(("document", "block"), _named("toml"), ids=_id)
def test_settings_are_toml(document: Path, block: markdown.Block) -> None:
    tomllib.loads(block.text)
