"""docs/reference.md against the program: nothing is missing there, nothing is there that is not, defaults are right."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path, PurePath
from types import UnionType
from typing import Any, Union, get_args, get_origin

import click
import msgspec
import pytest
from msgspec import NODEFAULT
from msgspec.structs import fields

import hacore
from hacore import errors
from hacore.carp.counters import Counters
from hacore.cli.group import main
from hacore.control import problems
from hacore.node import control_snapshot, settings, settings_values, snapshot
from hacore.node.event import Event
from hacore.node.hooks import Hooks
from tests.docs import markdown

REFERENCE = markdown.ROOT / "docs/reference.md"
TABLES = {table.heading: table for table in markdown.tables(REFERENCE)}


def _names(cell: str) -> list[str]:
    return re.findall(r"`([^`]*)`", cell)


def _section(heading: str) -> str:
    text = REFERENCE.read_text(encoding="utf-8")
    found = re.search(rf"^#+ {re.escape(heading)}$(.*?)(?=^#|\Z)", text, re.DOTALL | re.MULTILINE)
    assert found, f"there is no section {heading}"
    return found[1]


# Commands


def _commands(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _commands(inner, (*path, name))
    else:
        yield " ".join(path), command


COMMANDS = dict(_commands(main, ("hacore",)))


def test_every_command_has_a_section_and_every_section_a_command() -> None:
    headings = re.findall(r"^### (hacore .*)$", REFERENCE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(headings) == sorted(COMMANDS)


@pytest.mark.parametrize("path", COMMANDS)
def test_usage_and_options(path: str) -> None:
    command = COMMANDS[path]
    context = click.Context(command, info_name=path)
    usage = " ".join([path, *command.collect_usage_pieces(context)])
    assert f"`{usage}`" in _section(path)
    options = [tuple(one.opts + one.secondary_opts) for one in command.params if isinstance(one, click.Option)]
    documented = [tuple(_names(row[0])) for row in TABLES[path].rows] if path in TABLES else []
    assert sorted(documented) == sorted(options)


# Exit codes


def test_exit_codes_are_those_of_the_exceptions() -> None:
    known = {0, 2}  # success, and click's own for a wrong command line
    known |= {one.exit_code for one in vars(errors).values() if inspect.isclass(one) and hasattr(one, "exit_code")}
    known |= set(problems.EXIT_CODES.values())
    for _, text in _sources():
        known |= {int(code) for code in re.findall(r"^    exit_code = (\d+)", text, re.MULTILINE)}
    assert [int(row[0]) for row in TABLES["Exit codes"].rows] == sorted(known)


# Settings


SETTINGS: list[tuple[str, type[msgspec.Struct]]] = [
    *((f"`[{name}]`", kind) for name, kind in settings.SINGLE.items()),
    *((f"`[[{name}]]`", kind) for name, (kind, _) in settings.MANY.items()),
]
SETTINGS_IDS = [heading.strip("`[]") for heading, _ in SETTINGS]
#: Defaults that are found out when the node is started, and are told in words.
TOLD_IN_WORDS = {("`[node]`", "name"), ("`[[check]]`", "timeout")}


def _default(field: msgspec.structs.FieldInfo) -> object:
    if field.default is not NODEFAULT:
        return field.default
    return NODEFAULT if field.default_factory is NODEFAULT else field.default_factory()


def _written(default: object) -> str:
    """As the file would hold it; empty where there is nothing to write."""
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, str) and default:
        return f'"{default}"'
    return str(default) if isinstance(default, int | float | PurePath | settings_values.Endpoint) else ""


def test_every_table_of_the_settings_is_there() -> None:
    documented = [heading for heading in TABLES if heading.startswith("`[")]
    assert sorted(documented) == sorted(heading for heading, _ in SETTINGS)


@pytest.mark.parametrize(("heading", "kind"), SETTINGS, ids=SETTINGS_IDS)
def test_every_key_with_its_default(heading: str, kind: type[msgspec.Struct]) -> None:
    rows = {_names(row[0])[0]: row for row in TABLES[heading].rows}
    assert list(rows) == [field.name for field in fields(kind)], heading
    for field in fields(kind):
        default, cell = _default(field), rows[field.name][2]
        if default is NODEFAULT:
            assert cell.startswith("required"), f"{heading} {field.name}: has no default, the reference says {cell}"
        elif (written := _written(default)) and (heading, field.name) not in TOLD_IN_WORDS:
            assert written in _names(cell), (
                f"{heading} {field.name}: the default is {written}, the reference says {cell}"
            )


@pytest.mark.parametrize(("heading", "kind"), SETTINGS, ids=SETTINGS_IDS)
def test_bounds_stand_in_the_type(heading: str, kind: type[msgspec.Struct]) -> None:
    rows = {_names(row[0])[0]: row for row in TABLES[heading].rows}
    for field in fields(kind):
        metas = [part for part in get_args(field.type) if isinstance(part, msgspec.Meta)]
        for meta in metas:
            if meta.ge is not None and meta.le is not None:
                assert f"{meta.ge} to {meta.le}" in rows[field.name][1], f"{heading} {field.name}"


def test_keys_of_an_ignored_connection_are_named() -> None:
    cell = next(row for row in TABLES["`[states]`"].rows if row[0] == "`ignore`")[3]
    assert set(_names(cell)) == {field.name for field in fields(settings.Ignore)}


# status --json

STRUCTS: dict[str, type[msgspec.Struct]] = {
    "`node`": snapshot.NodeStatus,
    "`node.peers[]`": snapshot.PeerHeard,
    "`node.links[]`": snapshot.LinkStatus,
    "`node.realtime`": snapshot.Realtime,
    "`node.workers`": snapshot.Worker,
    "`node.checks[]`": snapshot.CheckStatus,
    "`vips[]`": snapshot.VipStatus,
    "`control`": control_snapshot.ControlStatus,
    "`control.pushes[]`": control_snapshot.PushCount,
    "`control.sections[]`": control_snapshot.SectionApplied,
}


@pytest.mark.parametrize("heading", STRUCTS)
def test_every_field_of_the_status(heading: str) -> None:
    documented = [name for row in TABLES[heading].rows for name in _names(row[0])]
    assert sorted(documented) == sorted(field.name for field in fields(STRUCTS[heading]))


def test_fields_of_what_stands_inside_other_fields() -> None:
    master = next(row for row in TABLES["`vips[]`"].rows if row[0] == "`master`")[1]
    assert {field.name for field in fields(snapshot.Master)} <= set(_names(master))
    demotion = next(row for row in TABLES["`node`"].rows if row[0] == "`demotion`")[1]
    assert {field.name for field in fields(snapshot.Demotion)} <= set(_names(demotion))


def _words_of(kind: object) -> set[str]:
    """The values of a Literal, also inside a union."""
    if get_origin(kind) in (Union, UnionType):
        return set().union(*(_words_of(part) for part in get_args(kind)))
    return {str(word) for word in get_args(kind)}


def test_states_of_workers_and_vips_are_named() -> None:
    assert {f'"{word}"' for word in _words_of(snapshot.WorkerState)} == set(_names(TABLES["`node.workers`"].rows[0][1]))
    state = next(row for row in TABLES["`vips[]`"].rows if row[0] == "`state`")[1]
    assert {f'"{word}"' for word in _words_of(snapshot.State)} == set(_names(state))


def test_counters_are_those_of_carp() -> None:
    assert [_names(row[0])[0] for row in TABLES["Counters"].rows] == [field.name for field in fields(Counters)]


# Events and hooks


def _sources() -> Iterator[tuple[Path, str]]:
    for path in Path(hacore.__file__).parent.rglob("*.py"):
        yield path, path.read_text(encoding="utf-8")


def test_every_kind_of_event() -> None:
    used: set[str] = set()
    for path, text in _sources():
        if path.parent.name == "web":
            used |= set(re.findall(r'worker\.record\(\s*"([a-z -]+)"', text))
        if path.parent.name in ("node", "carp", "control"):
            used |= set(re.findall(r'(?:\b_?record|_emit)\(\s*"([a-z -]+)"', text))
        if path.parent.name in ("node", "carp"):
            used |= set(re.findall(r'\bkind="([a-z -]+)"', text))
            used |= set(re.findall(r'\bnotice\(\s*[^,()]*(?:\([^()]*\))?,\s*"([a-z -]+)"', text))
    documented = [name for table in markdown.tables(REFERENCE) for row in table.rows for name in _names(row[0])
                  if table.heading == "Events" and table.columns[0] == "kind"]  # fmt: skip
    assert sorted(documented) == sorted(used)


def test_fields_of_an_event() -> None:
    documented = [name for table in markdown.tables(REFERENCE) for row in table.rows for name in _names(row[0])
                  if table.heading == "Events" and table.columns[0] == "field"]  # fmt: skip
    assert sorted(documented) == sorted(field.name for field in fields(Event))


def test_what_a_hook_is_given() -> None:
    given: dict[str, Any] = {}

    class Recorder:
        def run(self, argv: object, done: object, **options: Any) -> None:
            given.update(options)

    hooks = Hooks(Recorder(), lambda kind, text, **_: None, "fw1")  # type: ignore[arg-type]
    hooks.load([settings.Hook(name="one", on=("MASTER",), command=("true",))])
    hooks.transition("lan", interface="lan", vhid=1, before="BACKUP", after="MASTER", reason="master timed out")
    rows = TABLES["Hook environment"].rows
    assert [_names(row[0])[0] for row in rows] == list(given["variables"])
    assert [_names(row[1])[0] for row in rows] == list(msgspec.json.decode(given["stdin"]))
