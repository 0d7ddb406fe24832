"""docs/control.md against the program: routes, codes, limits."""

from __future__ import annotations

import re
from pathlib import Path

import hacore
from hacore.configsync.manifest import LARGEST_OBJECT_BYTES, MOST_ENTRIES
from hacore.control import answering, connection, server
from hacore.control.problems import EXIT_CODES
from hacore.control.registry import SMALL_BODY_BYTES
from hacore.node import places
from tests.control.wrong_world import World
from tests.docs import markdown

PAGE = markdown.ROOT / "docs/control.md"
TABLES = {table.heading: table for table in markdown.tables(PAGE)}
NEEDS = {"nothing": "anyone", "certificate": "peer"}


def test_every_route(tmp_path: Path) -> None:
    with World(tmp_path) as world:
        pass
    served = {f"`{route.method} /v1{route.path}`": route.needs for route in world.routes}
    assert {row[0]: NEEDS.get(row[1], row[1].strip("`")) for row in TABLES["Routes"].rows} == served


def test_every_code_is_raised_somewhere_and_has_its_exit_code() -> None:
    documented = {row[0].strip("`"): int(row[1]) for row in TABLES["Errors"].rows}
    assert {code: EXIT_CODES.get(code, 1) for code in documented} == documented
    assert set(EXIT_CODES) <= set(documented)
    sources = "".join(path.read_text() for path in Path(hacore.__file__).parent.rglob("*.py"))
    for code in documented:
        assert re.search(rf'[(= ]"{code}"[,):]', sources), code


def test_limits() -> None:
    limits = {row[0]: row[1] for row in TABLES["Limits"].rows}
    http = connection.HTTP_LIMITS
    assert list(limits.values()) == [
        f"{places.CONNECTIONS_PER_ADDRESS}",
        f"{places.CONNECTIONS}",
        f"{places.CONNECTIONS}",
        f"{server.HANDSHAKE_TIMEOUT:g} s",
        f"{connection.HEAD_TIMEOUT:g} s",
        f"{http['keepalive_timeout']:g} s",
        f"{answering.BODY_TIMEOUT:g} s",
        f"{http['max_line_size']} bytes",
        f"{http['max_field_size']} bytes, {http['max_headers']}",
        f"{SMALL_BODY_BYTES} bytes, unless the route has its own limit",
        f"{MOST_ENTRIES}",
        f"{LARGEST_OBJECT_BYTES >> 30} GiB",
    ]
    assert answering.BODY_TIMEOUT == answering.WRITE_TIMEOUT
