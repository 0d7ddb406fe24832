"""Any text at all, and any TOML at all, ends in settings or in a SettingsError."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hacore.errors import SettingsError
from hacore.node.settings import MANY, SINGLE, Settings, load

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
TELLING = st.sampled_from(
    [
        "lan",
        "fw1",
        "192.0.2.1/24",
        "2001:db8::1/64",
        "fe80::1/64",
        "192.0.2.0/24",
        "10.0.0.2:8116",
        "[::1]:1",
        "off",
        "MASTER",
        "/etc/x",
        "",
    ]
)
NUMBERS = st.sampled_from([0, 1, -1, 2, 100, 254, 255, 256, 2**31, 2**63 - 1]) | st.integers(-(2**63), 2**63 - 1)
SCALARS = st.booleans() | NUMBERS | st.floats() | TEXT | TELLING
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TELLING | TEXT, inner, max_size=3),
    max_leaves=6,
)


def table(kind: type[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A table with keys of `kind`, each with a value of any type."""
    return st.dictionaries(st.sampled_from(kind.__struct_fields__) | TEXT, VALUES, max_size=6)


DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        **{name: table(kind) | VALUES for name, kind in SINGLE.items()},
        **{name: st.lists(table(kind), max_size=3) | VALUES for name, (kind, _) in MANY.items()},
    },
)


def toml(value: object) -> str:
    """`value` as a TOML value on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(key)} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def loaded(content: bytes) -> Settings | SettingsError:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "hacore.toml")
        path.write_bytes(content)
        try:
            return load(path)
        except SettingsError as caught:
            error = caught
    assert error.problems
    assert all(problem.file and "\n" not in str(problem) for problem in error.problems)
    return error


@given(DOCUMENTS)
def test_any_toml_is_settings_or_a_settings_error(document: dict[str, Any]) -> None:
    content = "".join(f"{name} = {toml(value)}\n" for name, value in document.items())
    outcome = loaded(content.encode())
    if isinstance(outcome, SettingsError):
        assert all("is not TOML" not in problem.message for problem in outcome.problems)


@given(st.binary(max_size=300))
def test_any_bytes_are_settings_or_a_settings_error(content: bytes) -> None:
    loaded(content)
