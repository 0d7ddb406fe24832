"""Files that take values of the node that receives them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node.config_pair import Side, push, request
from tests.node.rules_pair import rules_pair

TEMPLATES = """
[[section]]
id = "rules"
paths = ["/etc/rules.conf", "/etc/rules.d"]
templates = ["/etc/rules.conf", "/etc/rules.d/own.template"]
[node.variables]
address = "{address}"
"""


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Side, Side]]:
    yield from rules_pair(tmp_path)


def test_templates_are_resolved_where_they_arrive(pair: tuple[Side, Side]) -> None:
    a, b = pair
    a.write_settings(TEMPLATES.format(address="192.0.2.11"))
    b.write_settings(TEMPLATES.format(address="192.0.2.12"))
    a.write("/etc/rules.conf", "from {{ address }} to {{address}}\n")
    a.write("/etc/rules.d/own.template", "listen {{ address }}\n", 0o640)
    a.write("/etc/rules.d/own", "listen 192.0.2.11\n")
    assert push(a, b).result == "applied"
    assert b.read("/etc/rules.conf") == "from 192.0.2.12 to 192.0.2.12\n"
    assert b.read("/etc/rules.d/own") == "listen 192.0.2.12\n"
    assert b.read("/etc/rules.d/own.template") == "listen {{ address }}\n"
    assert request(a, b).sections == []
    # The roles are changed: fw2 sends the templates, not what it made of them.
    assert request(b, a).sections == []
    b.write("/etc/rules.d/own", "by hand\n")
    assert b.node.overview()[0].changed


def test_a_variable_that_is_missing(pair: tuple[Side, Side]) -> None:
    a, b = pair
    a.write_settings(TEMPLATES.format(address="192.0.2.11"))
    b.write_settings(TEMPLATES.replace("address =", "other =").format(address="1"))
    a.write("/etc/rules.conf", "\nfrom {{ address }}\n")
    outcome = push(a, b)
    assert outcome.result == "refused"
    assert outcome.failure is not None
    assert "lack address (line 2)" in outcome.failure.message
