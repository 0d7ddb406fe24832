"""A LAN with real nodes on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.running_node import Segment


@pytest.fixture
def segment(tmp_path: Path, tool: Callable[[str], str]) -> Iterator[Segment]:
    tool("nft")
    with Segment(tmp_path) as made:
        yield made
