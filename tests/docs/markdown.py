"""What the tests read out of the documents: fenced blocks, orders to the test, headings, links, tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


class Block(NamedTuple):
    """A fenced block: its info string in words, its text, and the line it begins on."""

    words: tuple[str, ...]
    text: str
    line: int

    @property
    def language(self) -> str:
        return self.words[0] if self.words else ""


class Order(NamedTuple):
    """`<!-- test: WORDS -->`: what the test does where the reader does something by hand."""

    words: tuple[str, ...]
    line: int


def parts(document: Path) -> Iterator[Block | Order]:
    """Blocks and orders as they stand in the document."""
    lines = document.read_text(encoding="utf-8").splitlines()
    number = 0
    while number < len(lines):
        line = lines[number]
        if order := re.fullmatch(r"<!-- test: (.*) -->", line.strip()):
            yield Order(tuple(order[1].split()), number + 1)
        elif fence := re.match(r"( *)(`{3,})(.*)$", line):
            indent, mark, info = len(fence[1]), fence[2], fence[3]
            begin, number = number, number + 1
            content = []
            while lines[number].strip() != mark:
                content.append(lines[number][indent:])
                number += 1
            yield Block(tuple(info.split()), "\n".join(content) + "\n", begin + 1)
        number += 1


def blocks(document: Path) -> list[Block]:
    return [part for part in parts(document) if isinstance(part, Block)]


def prose(document: Path) -> str:
    """The document without its fenced blocks."""
    return re.sub(r"^( *)(`{3,}).*?^\1\2$", "", document.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def slug(heading: str) -> str:
    """The fragment that GitHub makes of the first heading of this text."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower()
    return "".join(character for character in text if character.isalnum() or character in " -_").replace(" ", "-")


def anchors(document: Path) -> set[str]:
    """The fragments that GitHub makes of the headings."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ +(.*)$", prose(document), re.MULTILINE):
        number, anchor = 0, slug(heading)
        while anchor in found:
            number += 1
            anchor = f"{slug(heading)}-{number}"
        found.add(anchor)
    return found


def links(document: Path) -> list[str]:
    """The targets of every link and image."""
    text = prose(document)
    return re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)


class Table(NamedTuple):
    """A table under a heading: its column names and rows, cells without surrounding blanks."""

    heading: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]


def tables(document: Path) -> list[Table]:
    """Every table of the document with the heading that it stands under."""
    found: list[Table] = []
    heading, inside = "", False
    for line in map(str.strip, prose(document).splitlines()):
        if line.startswith("#"):
            heading = line.lstrip("#").strip()
        if not line.startswith("|"):
            inside = False
            continue
        cells = tuple(cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1])
        if not inside:
            found.append(Table(heading, cells, []))
            inside = True
        elif not all(re.fullmatch(r":?-+:?", cell) for cell in cells):
            found[-1].rows.append(cells)
    return found
