"""Certificates that come, change and go while the states worker runs."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from hacore.control.trial_certificates import make_test_certificates
from hacore.node.states_credentials import Credentials
from tests.node.states_pair import Node, eventually, made


@pytest.fixture
def files(tmp_path: Path) -> Path:
    make_test_certificates(tmp_path, ["fw1", "fw2"])
    return tmp_path / "fw1"


def credentials(files: Path) -> Credentials:
    return Credentials(files / "node.crt", files / "node.key", files / "peers.pem")


def test_what_is_on_the_disk_is_read_once_and_again_when_it_changes(files: Path) -> None:
    read = credentials(files)
    assert read.contexts is not None
    assert read.problem == ""
    assert read.trusted == {ssl.PEM_cert_to_DER_cert((files / "peers.pem").read_text())}
    assert not read.look()
    (files / "peers.pem").write_text("")
    assert read.look()
    assert read.contexts is None
    assert read.trusted == set()
    assert "not paired: this node trusts no other" in read.problem


def test_a_node_without_certificate_is_not_paired(tmp_path: Path) -> None:
    read = credentials(tmp_path)
    assert read.contexts is None
    assert "not paired: this node has no certificate" in read.problem


def test_half_a_renewal_changes_nothing_and_the_whole_is_read(files: Path, tmp_path: Path) -> None:
    read = credentials(files)
    before = read.contexts
    make_test_certificates(tmp_path / "new", ["fw1", "fw2"])
    (tmp_path / "new/fw1/node.key").rename(files / "node.key")
    assert read.look()
    assert read.contexts is before
    assert "mismatch" in read.problem
    (tmp_path / "new/fw1/node.crt").rename(files / "node.crt")
    assert read.look()
    assert read.contexts is not before
    assert read.problem == ""


def phase(node: Node) -> str:
    shown = node.states()
    return str(shown["peers"][0]["receiving"]["phase"]) if shown else ""


def warned(node: Node, text: str) -> bool:
    return any(text in warning for warning in node.status()["node"]["warnings"])


def test_a_pair_runs_unpaired_is_paired_and_unpaired_again_without_a_restart(tmp_path: Path) -> None:
    with made(tmp_path, start=False) as pair:
        for node in pair.nodes:
            for file in ("node.crt", "node.key", "peers.pem"):
                (node.directory / "state/tls" / file).unlink()
            node.start()
        eventually(lambda: {pair.one.carp, pair.two.carp} == {"MASTER", "BACKUP"})
        for node in pair.nodes:
            eventually(lambda node=node: warned(node, "not paired"))  # type: ignore[misc]
        pids = [node.status()["node"]["workers"]["states"]["pid"] for node in pair.nodes]
        for node in pair.nodes:
            node.trust(tmp_path / "certificates")
        pair.follow()
        assert not warned(pair.one, "not paired")
        (pair.one.directory / "state/tls/peers.pem").write_text("")
        eventually(lambda: phase(pair.one) == phase(pair.two) == "down")
        eventually(lambda: warned(pair.one, "not paired: this node trusts no other"))
        pair.one.trust(tmp_path / "certificates")
        pair.follow()
        assert pids == [node.status()["node"]["workers"]["states"]["pid"] for node in pair.nodes]
        assert [node.status()["node"]["workers"]["states"]["restarts"] for node in pair.nodes] == [0, 0]
