"""`hacore carp` and `hacore demotion`: what the node is asked, and what is shown of its answer."""

from __future__ import annotations

import json

import pytest

from hacore.node.bus import BadRequest
from tests.cli.conftest import FakeNode, Run

DEMOTION = {"total": 250, "reasons": {"maintenance": 240, "mine": 10}}


def test_carp(run: Run, node: FakeNode) -> None:
    assert run("carp", "disable").output.startswith("carp is disabled until")
    assert run("carp", "enable").output == "carp is enabled\n"
    assert node.requests == [{"command": "carp", "enable": False}, {"command": "carp", "enable": True}]


@pytest.fixture
def demoted(node: FakeNode) -> FakeNode:
    shown = {"node": {"demotion": DEMOTION}}
    node.answers["demotion"] = lambda request: shown if request["action"] == "show" else {}
    return node


def test_demotion_is_shown_after_each_change(run: Run, demoted: FakeNode) -> None:
    table = "maintenance  240\nmine         10\ntotal        250\n"
    for arguments in (["show"], ["add", "mine", "10"], ["add", "less", "-5"], ["remove", "mine"], ["reset"]):
        assert run("demotion", *arguments).output == table
    asked = [request for request in demoted.requests if request["action"] != "show"]
    assert asked == [
        {"command": "demotion", "action": "add", "name": "mine", "value": 10},
        {"command": "demotion", "action": "add", "name": "less", "value": -5},
        {"command": "demotion", "action": "remove", "name": "mine"},
        {"command": "demotion", "action": "reset"},
    ]


def test_demotion_for_programs(run: Run, demoted: FakeNode) -> None:
    assert json.loads(run("demotion", "show", "--json").output) == DEMOTION


def test_no_demotion(run: Run, node: FakeNode) -> None:
    node.answers["demotion"] = {"node": {"demotion": {"total": 0, "reasons": {}}}}
    assert run("demotion", "show").output == "not demoted\n"


def test_the_nodes_refusal_is_the_error(run: Run, node: FakeNode) -> None:
    node.answers["demotion"] = BadRequest('no demotion is called "x"; there are: mine')
    result = run("demotion", "remove", "x")
    assert result.exit_code == 64
    assert result.stderr == 'Error: no demotion is called "x"; there are: mine\n'
