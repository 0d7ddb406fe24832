"""A gateway with real connections of every kind, and what its table held: made once for a module."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hacore.linux import conntrack
from hacore.states.layout import keys_of
from tests.namespaces import Host, Network
from tests.oracle import conntrack as judge
from tools import ct_flows
from tools.ct_flows import flow, mixed_flows
from tools.ct_packets import ESP, TCP, UDP, Tuple

Records = npt.NDArray[np.void]


def listing(host: Host) -> dict[tuple[Any, ...], dict[str, Any]]:
    """What conntrack(8) lists there, by `judge.named`."""
    entries = [judge.printed(line) for line in host.run("conntrack", "-L", "-o", "extended").splitlines()]
    return {judge.named(entry): entry for entry in entries}


def by_key(rows: Records) -> dict[bytes, Any]:
    """Rows by the bytes of their keys."""
    return {key.tobytes(): row for key, row in zip(keys_of(rows), rows, strict=True)}


@dataclass(slots=True)
class World:
    """`gateway` has seen `flows` (as sent, and as the far side saw them); `rows` is its dump, `expectations` what it
    waits for."""

    network: Network
    gateway: Host
    play: ct_flows.Gateway
    flows: dict[Tuple, Tuple]
    control: Tuple  # of FTP
    data: Tuple  # what the server would open
    rows: Records
    expectations: Records

    def twin(self, label: str, ruleset: str = ct_flows.RULESET) -> Host:
        """A second firewall with the same ruleset and an empty table."""
        host = self.network.host(label)
        host.run("nft", "-f", "-", text=ruleset)
        return host


@contextmanager
def made(flows: int = 300) -> Iterator[World]:
    """Every protocol, source and destination NAT, both families, zones of one direction and of both, marks, labels,
    helpers, expectations, an expected connection with its master, adjusted sequence numbers, and TCP in several
    states.
    """
    with Network() as network:
        gateway, wire = network.host("gw"), network.host("wire")
        with ct_flows.Gateway(gateway.name, wire.name) as play:
            seen = play.talk(mixed_flows(flows))
            for protocol, port in ((UDP, 53), (TCP, 443)):
                outside = [flow(protocol, "198.51.100.7", "203.0.113.80", 5000 + index, port) for index in range(4)]
                seen |= play.talk(outside, origin="outside")
            seen |= play.talk([flow(TCP, "10.77.0.2", "198.51.100.1", 5000 + index, 8080) for index in range(4)])
            seen |= play.talk([flow(TCP, "10.0.0.2", "198.18.77.1", 5000 + index, 8443) for index in range(4)])
            seen |= play.talk([flow(ESP, "10.66.0.9", "198.51.100.1"), flow(51, "10.0.0.9", "198.51.100.1")])
            for number, last in enumerate(("begun", "answered", "closing", "reset")):
                some = [flow(TCP, "10.0.0.5", "198.51.100.7", 6000 + 10 * number + index, 443) for index in range(3)]
                seen |= play.talk(some, last=last)
            # A transfer that is under way (its data connection is there), and one that is only announced.
            _, first = ct_flows.ftp_session(play, client="10.0.1.200", server="198.51.100.22", port=34_001)
            play.talk([first], origin="outside")
            control, data = ct_flows.ftp_session(play)
            ct_flows.sip_session(play)
            with gateway.entered():
                rows, expectations = conntrack.dump_rows(), conntrack.dump_expectations()
            yield World(network, gateway, play, seen, control, data, rows, expectations)
