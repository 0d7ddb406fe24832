"""A renewal that is cut off after every single change of the disk, and goes on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hacore.control.certificates import Place, load, load_or_make
from hacore.control.renewal import Renewal
from hacore.errors import PlatformError

NOW = 1_800_000_000.0


class Cut(BaseException):
    """The power goes."""


class Disk:
    """Counts the changes of directories (what a file holds is seen only when it is renamed), and cuts one off."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = 10**6
        self.made = 0
        for method in ("replace", "unlink"):
            monkeypatch.setattr(Path, method, self._counting(getattr(Path, method)))

    def _counting(self, change: object) -> object:
        def changed(path: Path, *arguments: object, **options: object) -> object:
            if self.left == 0:
                raise Cut
            self.left -= 1
            self.made += 1
            return change(path, *arguments, **options)  # type: ignore[operator]

        return changed


class Node:
    def __init__(self, directory: Path) -> None:
        self.place = Place(directory / "tls/node.crt", directory / "tls/node.key")
        self.journal = directory / "pairing/renewal.json"
        self.first = load_or_make(self.place, "fw1", NOW)[0].certificate
        self.peers = {"fw2": [self.first.fingerprint], "fw3": [self.first.fingerprint]}

    def work(self, *, begin: bool, reachable: tuple[str, ...] = ("fw2", "fw3")) -> None:
        """What the worker does at its start, and from then on; with `begin` somebody asks for a renewal."""
        renewal = Renewal(self.place, self.journal)
        renewal.settle()
        own = load(self.place)
        assert own is not None
        for known in self.peers.values():
            assert own.certificate.fingerprint in known, "a peer does not know what is in use"
        if begin and renewal.under_way is None and own.certificate == self.first:
            renewal.begin(own.certificate, NOW)
        if (journal := renewal.under_way) is None:
            return
        for name in renewal.to_tell(self.peers):
            if name in reachable:
                new = renewal.new_identity().certificate.fingerprint
                self.peers[name] = [new] if journal.switched else [own.certificate.fingerprint, new]
                renewal.told(name)
        if not renewal.to_tell(self.peers):
            if journal.switched:
                renewal.end()
            else:
                renewal.switch()

    def is_done(self) -> bool:
        own = load(self.place)
        return own is not None and all(known == [own.certificate.fingerprint] for known in self.peers.values())


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_all_peers_know_before_it_is_used_and_forget_the_old_one_after(node: Node) -> None:
    node.work(begin=True)
    node.work(begin=False)
    assert node.is_done()
    own = load(node.place)
    assert own is not None
    assert own.certificate.fingerprint != node.first.fingerprint
    assert own.certificate.name == "fw1"
    assert sorted(os.listdir(node.place.key.parent)) == ["node.crt", "node.key"]
    assert not node.journal.exists()


def test_nothing_is_switched_while_a_peer_does_not_know(node: Node) -> None:
    node.work(begin=True, reachable=("fw2",))
    node.work(begin=True, reachable=("fw2",))
    own = load(node.place)
    assert own is not None
    assert own.certificate == node.first
    assert node.peers["fw2"] == [
        node.first.fingerprint,
        Renewal(node.place, node.journal).new_identity().certificate.fingerprint,
    ]
    node.work(begin=False)
    node.work(begin=False)
    assert node.is_done()


def test_a_crash_at_every_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = 0
    for step in range(1000):
        node = Node(tmp_path / str(step))
        with monkeypatch.context() as patched:
            disk = Disk(patched)
            disk.left = step
            try:
                node.work(begin=True)
                node.work(begin=False)
            except Cut:
                pass
            else:
                made = disk.made
                break
        for _ in range(3):
            node.work(begin=True)
        assert node.is_done(), step
        assert sorted(os.listdir(node.place.key.parent)) == ["node.crt", "node.key"]
        own = load(node.place)
        assert own is not None
        assert own.certificate != node.first
    assert made > 10


def test_the_journal_names_its_file_when_it_is_damaged(node: Node) -> None:
    node.work(begin=True, reachable=())
    node.journal.write_text("{")
    with pytest.raises(PlatformError, match=r"renewal\.json"):
        Renewal(node.place, node.journal)


def test_a_renewal_that_is_abandoned_leaves_nothing(node: Node) -> None:
    node.work(begin=True, reachable=())
    renewal = Renewal(node.place, node.journal)
    renewal.abandon()
    assert renewal.under_way is None
    assert sorted(os.listdir(node.place.key.parent)) == ["node.crt", "node.key"]
    own = load(node.place)
    assert own is not None
    assert own.certificate == node.first
