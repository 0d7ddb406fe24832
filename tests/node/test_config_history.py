"""The revisions of a node: how many are kept, what is known of those that are not, and the way back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hacore.node.config_node import Guarded
from tests.node.config_pair import Side, push
from tests.node.rules_pair import TWO, rules_pair


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Side, Side]]:
    yield from rules_pair(tmp_path)


def test_history_is_kept_and_can_be_returned_to(pair: tuple[Side, Side], monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = pair
    monkeypatch.setattr("hacore.node.config_revisions.KEPT", 5)
    for number in range(8):
        a.write("/etc/rules.conf", f"version {number}\n")
        assert push(a, b, ["rules"]).result == "applied"
    numbers = [each.number for each in b.node.parts.revisions.all()]
    assert numbers == [5, 6, 7, 8, 9]
    assert b.node.roll_back(6, lambda _: None, by="admin").result == "applied"
    assert b.read("/etc/rules.conf") == "version 4\n"
    assert not b.node.overview()[0].changed
    b.restart()
    assert b.node.roll_back(6, lambda _: None, by="admin").result == "unchanged"
    assert b.node.parts.revisions.all()[-1].kind == "roll-back"
    packs = list(b.node.parts.store.directory.glob("*.pack"))
    assert len(packs) < 10
    for revision in b.node.parts.revisions.all():
        assert b.node.parts.revisions.manifest(revision.sections["rules"].live).section == "rules"


def test_what_brought_a_section_is_known_after_its_revision_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hacore.node.config_revisions.KEPT", 3)
    a, b = (Side(tmp_path / name, name, TWO) for name in ("fw1", "fw2"))
    a.write("/etc/other", "0\n")
    number = push(a, b, ["other"]).revision
    for version in range(4):
        a.write("/etc/rules.conf", f"{version}\n")
        push(a, b, ["rules"])
    assert number not in [revision.number for revision in b.node.parts.revisions.all()]
    b.restart()
    b.write("/etc/other", "by hand\n")
    (status,) = b.node.overview(["other"])
    assert (status.revision, status.by, status.changed) == (number, "fw1", True)
    a.write("/etc/other", "1\n")
    with pytest.raises(Guarded, match="other changed on fw2 itself"):
        push(a, b, ["other"])
