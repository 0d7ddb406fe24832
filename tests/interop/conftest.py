"""A LAN with real nodes, and the tools that are held against them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.namespaces import Sniffer
from tests.running_node import Segment


@pytest.fixture
def segment(tmp_path: Path, tool: Callable[[str], str]) -> Iterator[Segment]:
    tool("nft")
    with Segment(tmp_path) as made:
        yield made


Watching = Callable[[Sniffer], Sniffer]


@pytest.fixture
def watching() -> Iterator[Watching]:
    """Closes the sniffers that were made."""
    with ExitStack() as stack:
        yield lambda sniffer: stack.enter_context(closing(sniffer))
