"""The pair of hosts, set up as the guide says, for all tests of this folder."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts.debian import installed
from tests.hosts.pair import Pair
from tests.namespaces import require


@pytest.fixture(scope="session")
def hosts() -> Iterator[Pair]:
    """fw1 and fw2, switched on, with hacore running and fw1 holding the virtual addresses."""
    require("ip", "nft", "systemd-nspawn", "debootstrap", "nsenter")
    with tempfile.TemporaryDirectory(prefix="hacore-hosts-") as directory:
        # An overlay cannot write to another overlay, which the file system of a container often is.
        subprocess.run(["mount", "-t", "tmpfs", "hacore-hosts", directory], check=True)
        try:
            with Pair(installed(), Path(directory)) as pair:
                set_up(pair)
                yield pair
        finally:
            subprocess.run(["umount", "--lazy", directory], check=True)


def set_up(pair: Pair) -> None:
    """From bare machines to a running pair."""
    pair.power_on(pair.fw1, pair.fw2)
    pair.follow("3. Install hacore")
    pair.follow("4. Prepare the machines")
    pair.follow("5. Write the settings")
    pair.follow("6. Start the pair")
    pair.until_holds(pair.fw1)
    pair.follow("9. Pair the nodes")
    pair.follow("10. Update the backup on command")
