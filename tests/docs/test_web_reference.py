"""docs/reference.md against what the page's port serves to programs: every metric and every path."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from hacore.web.metrics import Peer, scrape
from tests.docs import markdown
from tests.web.full_snapshot import full_snapshot
from tests.web.one_site import one_site

TABLES = {table.heading: table for table in markdown.tables(markdown.ROOT / "docs/reference.md")}


def test_every_metric_with_its_labels() -> None:
    text = scrape(full_snapshot(), [Peer("fw2", fresh=True, at=1.0)]).body.decode()
    told: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            told.setdefault(sample.name, set()).update(sample.labels)
    documented = {
        row[0].strip("`"): {label.strip("` ") for label in row[1].split(",") if label.strip()}
        for row in TABLES["Metrics"].rows
    }
    assert documented == told


def test_every_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    documented = {re.sub(r"\?.*", "", row[0].strip("`")) for row in TABLES["API"].rows}

    async def served() -> set[str]:
        async with one_site(tmp_path, monkeypatch) as one:
            return {
                f"{route.method} {re.sub(r'{(.*?)}', lambda name: name[1].upper(), route.path[len('/api/v1') :])}"
                for route in one.site.routes
                if route.path.startswith("/api/v1")
            }

    assert documented == asyncio.run(served())
