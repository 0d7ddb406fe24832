"""docs/operations.md against the program: reasons of transitions and of demotion, and what listens."""

from __future__ import annotations

from msgspec.structs import fields

from hacore.carp import demotion
from hacore.carp.table import TABLE
from hacore.node import settings
from tests.docs import markdown

OPERATIONS = markdown.ROOT / "docs/operations.md"
TABLES = {table.heading: table for table in markdown.tables(OPERATIONS)}


def test_every_reason_of_a_transition_with_its_states() -> None:
    documented = {row[0]: row[1] for row in TABLES["Why a state changes"].rows}
    expected: dict[str, str] = {}
    for state, row in TABLE.items():
        for outcome in row.values():
            new = f"{state.value}, {outcome.state.value}"
            known = expected.get(outcome.reason, new)
            expected[outcome.reason] = new if known == new else f"any, {outcome.state.value}"
    assert documented == expected


def test_every_reason_for_demotion() -> None:
    text = OPERATIONS.read_text(encoding="utf-8")
    names = {value for name, value in vars(demotion).items() if name.isupper() and isinstance(value, str)}
    assert all(f"`{name}`" in text for name in names)
    rows = {row[0].strip("`"): row[1] for row in TABLES["Demotion"].rows}
    for name in names - demotion.KEEPS_MASTERSHIP:
        assert rows[name].startswith(str(demotion.FULL))


def test_every_port_that_a_node_listens_on() -> None:
    listening = {
        f"`[{name}]`" for name, kind in settings.SINGLE.items() if any(field.name == "listen" for field in fields(kind))
    }
    assert {row[0] for row in TABLES["Security"].rows} == listening
