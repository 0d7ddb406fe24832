"""Who may not speak, and what may not be said: each ends one connection with one clear reason, and nothing else."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest

from hacore.control.trial_certificates import make_test_certificates
from hacore.lab.fill import AT_ONCE, idle_connections
from hacore.linux import conntrack
from hacore.node.states_tls import STREAM_PROTOCOL, contexts
from tests.node.states_pair import Node, Pair, eventually, made
from tools.ct_flows import flow
from tools.ct_packets import UDP


def says(node: Node, *words: str) -> bool:
    return any(all(word in text for word in words) for text in node.history())


def backup_without_stream(pair: Pair) -> Node | None:
    """The node that is BACKUP (whoever was first is MASTER and stays it), once it says what it lacks."""
    for node, other in ((pair.one, pair.two), (pair.two, pair.one)):
        if other.carp == "MASTER" and node.carp == "BACKUP" and node.demotion.keys() >= {"no state sync"}:
            return node
    return None


def test_a_certificate_that_is_not_trusted(tmp_path: Path) -> None:
    with made(tmp_path, start=False, bulk_deadline=1.0) as pair:
        make_test_certificates(tmp_path / "others", ["fw1", "fw2"])
        pair.two.trust(tmp_path / "others")
        for node in pair.nodes:
            node.start()
        backup = eventually(lambda: backup_without_stream(pair))
        eventually(lambda: says(pair.one, "refused a connection", "certificate"))
        eventually(lambda: says(pair.two, "no stream to fw1", "not to be trusted"))
        eventually(lambda: says(backup, "no bulk update from", "within 1 s"))
        assert backup.demotion == {"no state sync": 240}
        assert pair.one.states()["sharing"]["refused"] >= 1
        assert next(node for node in pair.nodes if node is not backup).demotion == {}
        assert backup.states()["peers"][0]["receiving"]["phase"] == "down"


def test_another_node_of_the_same_name(tmp_path: Path) -> None:
    with made(tmp_path, start=False) as pair:
        make_test_certificates(tmp_path / "others", ["fw1", "third"])
        pair.two.trust(tmp_path / "others", "fw1")
        known, theirs = (
            pair.one.directory / "state/tls/peers.pem", (tmp_path / "others/fw1/node.crt").read_bytes()
        )  # fmt: skip
        known.write_bytes(known.read_bytes() + theirs)
        own = (pair.one.directory / "state/tls/node.crt").read_bytes()
        (pair.two.directory / "state/tls/peers.pem").write_bytes(own)
        for node in pair.nodes:
            node.start()
        eventually(lambda: backup_without_stream(pair))
        eventually(lambda: says(pair.one, "refused a connection", "fw1", "this node's own name"))
        eventually(lambda: says(pair.one, "no stream to fw2", "is not fw2: its certificate says fw1"))


@pytest.mark.parametrize(
    "said",
    [b"GET / HTTP/1.1\r\n\r\n" * 10, b"\xff\xff\xff\xff\x01", bytes(64), b"\x00\x00\x00\x00" * 16],
    ids=["another protocol", "a length of 4 GB", "zeros", "empty frames"],
)
def test_garbage_from_a_peer(tmp_path: Path, said: bytes) -> None:
    with made(tmp_path) as pair:
        pair.one.gateway.talk([flow(UDP, "10.0.0.2", "198.51.100.8", 5000 + index, 53) for index in range(20)])
        eventually(pair.alike)
        before = pair.two.keys()
        tls = tmp_path / "certificates/fw1"
        context = contexts(tls / "node.crt", tls / "node.key", tls / "peers.pem").client
        context.set_alpn_protocols([STREAM_PROTOCOL])
        with pair.one.host.entered():
            plain = socket.create_connection(("10.9.0.2", 8116), timeout=5)
        with context.wrap_socket(plain) as connection:
            connection.send(said)
            try:
                while connection.recv(4096):
                    pass
            except (ssl.SSLError, ConnectionError):
                pass
        pair.follow()
        assert len(before) == 20
        eventually(lambda: pair.two.keys() == before == pair.one.keys())
        assert pair.two.status()["node"]["workers"]["states"]["restarts"] == 0
        assert says(pair.two, "stream from", "ended")


def test_a_full_kernel_table_is_told_and_complete_when_there_is_room_again(tmp_path: Path) -> None:
    with made(tmp_path) as pair:
        with pair.two.host.entered(), conntrack.Injector() as injector:
            limit = conntrack.limit()
            for first in range(0, limit + 1000, AT_ONCE):
                injector.inject(idle_connections(AT_ONCE, first))
        pair.one.gateway.talk([flow(UDP, f"10.2.0.{1 + index}", "198.51.100.8", 5000, 53) for index in range(50)])
        eventually(lambda: sum(pair.two.states()["kernel"]["errors"].values()) >= 40)
        told = pair.two.states()["kernel"]["errors"]
        assert all(name.startswith("ENOMEM") for name in told)
        assert pair.two.states()["kernel"]["limit"] == limit
        with pair.two.host.entered():
            conntrack.flush()
        pair.one.gateway.talk([flow(UDP, f"10.3.0.{1 + index}", "198.51.100.8", 5000, 53) for index in range(50)])
        eventually(lambda: len(pair.one.keys()) == 100 and pair.one.keys() <= pair.two.keys())
        eventually(lambda: pair.two.states()["kernel"]["unfitted"] == 0)
        assert pair.two.follows()
        assert not says(pair.two, "stream from fw1 ended")
