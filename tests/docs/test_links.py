"""Links of the documents: the files and headings are there, and every document is reached from the README."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs import markdown


def _inside(document: Path) -> list[tuple[Path, str]]:
    """The links that stay in the tree, as (file, fragment)."""
    found = []
    for link in markdown.links(document):
        if "://" in link or link.startswith("mailto:"):
            continue
        name, _, fragment = link.partition("#")
        found.append(((document.parent / name).resolve() if name else document, fragment))
    return found


@pytest.mark.parametrize("document", markdown.DOCUMENTS, ids=lambda document: document.name)
def test_every_link_leads_somewhere(document: Path) -> None:
    for target, fragment in _inside(document):
        # The tests may run beside an installed wheel, where only the documents came along.
        inside_docs = target == markdown.ROOT / "README.md" or target.is_relative_to(markdown.ROOT / "docs")
        if inside_docs or (markdown.ROOT / "src/hacore/__init__.py").exists():
            assert target.exists(), f"{document.name} links to {target}, which is not there"
        if fragment and target.suffix == ".md":
            assert fragment in markdown.anchors(target), f"{document.name}: {target.name} has no heading #{fragment}"


def test_every_document_is_reached_from_the_readme() -> None:
    reached: set[Path] = set()
    waiting = [markdown.ROOT / "README.md"]
    while waiting:
        document = waiting.pop()
        if document in reached or document.suffix != ".md":
            continue
        reached.add(document)
        waiting += [target for target, _ in _inside(document) if target.exists()]
    assert set(markdown.DOCUMENTS) <= reached


@pytest.mark.parametrize("document", markdown.DOCUMENTS, ids=lambda document: document.name)
def test_tables_have_as_many_cells_in_each_row(document: Path) -> None:
    for table in markdown.tables(document):
        for row in table.rows:
            assert len(row) == len(table.columns), f"{document.name}: {table.heading}: {row}"


@pytest.mark.parametrize("document", markdown.DOCUMENTS, ids=lambda document: document.name)
def test_a_document_is_one(document: Path) -> None:
    """One title, at the top; and where a line at the top lists the sections, it lists all of them."""
    prose = markdown.prose(document)
    assert re.findall(r"^# ", prose, re.MULTILINE) == ["# "], document.name
    contents = re.search(r"^\[.*?\]\(#.* · .*?\n\n", prose, re.DOTALL | re.MULTILINE)
    if contents:
        listed = re.findall(r"\]\(#([^)]*)\)", contents[0])
        sections = [markdown.slug(heading) for heading in re.findall(r"^## +(.*)$", prose, re.MULTILINE)]
        assert listed == sections, document.name
