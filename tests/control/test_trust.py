"""The trust file: exactly the other nodes' certificates, those revoked beside it, and nothing lost by a crash."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hacore.control import pairs
from hacore.control.certificates import Certificate, make, parse, save
from hacore.control.trust import REMEMBERED, Trust, TrustStore
from hacore.errors import PlatformError

NOW = 1_800_000_000.0


@pytest.fixture
def store(tmp_path: Path) -> TrustStore:
    return TrustStore(tmp_path / "tls/peers.pem")


def test_no_file_is_no_trust(store: TrustStore) -> None:
    assert store.read() == Trust()


def test_what_is_added_is_trusted_and_tls_reads_the_file(store: TrustStore) -> None:
    first, second = make("fw2", NOW).certificate, make("fw3", NOW).certificate
    store.add(first)
    store.add(second)
    store.add(first)
    trust = store.read()
    assert set(trust.peers) == {first, second}
    assert trust.find(first.der) == first
    assert trust.of("fw3") == (second,)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_verify_locations(store.path)
    assert context.cert_store_stats()["x509"] == 2


def test_a_node_has_two_certificates_at_most(store: TrustStore) -> None:
    old, new, newer = (make("fw2", NOW + n).certificate for n in range(3))
    store.add(old)
    store.add(new)
    assert store.read().of("fw2") == (old, new)
    store.add(newer)
    assert store.read().of("fw2") == (new, newer)
    store.keep_only(newer)
    assert store.read() == Trust((newer,))


def test_what_is_revoked_is_known_as_such_until_it_is_trusted_again(store: TrustStore) -> None:
    one, other = make("fw2", NOW).certificate, make("fw3", NOW).certificate
    store.add(one)
    store.add(other)
    assert store.revoke("fw2") == (one,)
    assert store.revoke("fw2") == ()
    assert store.read() == Trust((other,), (one,))
    assert store.read().is_revoked(one.der)
    store.add(one)
    assert store.read() == Trust((other, one))


def test_a_crash_between_the_two_writes_of_a_revocation_leaves_nobody_trusted(store: TrustStore) -> None:
    one = make("fw2", NOW).certificate
    store.add(one)
    before = store.path.read_bytes()
    store.revoke("fw2")
    store.path.write_bytes(before)
    assert store.read().of("fw2") == ()
    store.settle()
    assert store.path.read_bytes() == b""


def test_only_the_latest_revoked_ones_are_remembered(store: TrustStore) -> None:
    for number in range(REMEMBERED + 3):
        store.add(make(f"n{number}", NOW).certificate)
        store.revoke(f"n{number}")
    assert [one.name for one in store.read().revoked] == [f"n{number}" for number in range(3, REMEMBERED + 3)]


def test_a_damaged_file_is_named(store: TrustStore) -> None:
    store.add(make("fw2", NOW).certificate)
    store.path.write_bytes(store.path.read_bytes().replace(b"MII", b"AII"))
    with pytest.raises(PlatformError, match=r"peers\.pem: no certificate"):
        store.read()


def test_the_own_certificate_is_parsed_only_when_its_file_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[bytes] = []

    def counted(pem: bytes) -> Certificate:
        parsed.append(pem)
        return parse(pem)

    monkeypatch.setattr(pairs, "parse", counted)
    made_up: Any = SimpleNamespace(
        settings=SimpleNamespace(control=SimpleNamespace(certificate=tmp_path / "node.crt", key=tmp_path / "node.key")),
        trust=Trust(), on_start=print, on_stop=print, on_trust=print,
    )  # fmt: skip

    async def told() -> None:
        part = pairs.Pairs(made_up)
        assert part.warnings(NOW) == []
        first, second = make("fw1", NOW), make("fw1", NOW, valid_days=20)
        save(first, part.place)
        assert [part.warnings(NOW) for _ in range(3)] == [[]] * 3
        assert parsed == [first.certificate.pem]
        save(second, part.place)
        assert "expires in 20 d" in part.warnings(NOW)[0]
        assert "expires in 10 d" in part.warnings(NOW + 10 * 86400)[0]
        assert parsed == [first.certificate.pem, second.certificate.pem]
        part.place.certificate.unlink()
        assert part.own() is None

    asyncio.run(told())
