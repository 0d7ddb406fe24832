"""A node's certificate: what is made, what is kept, and what of another node's is refused."""

from __future__ import annotations

import contextlib
import datetime as dt
import stat
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from hacore.control import certificates
from hacore.control.certificates import BadCertificate, Place, check_dates, load, load_or_make, make, parse, save
from hacore.errors import PlatformError
from hacore.node.durable import write_durably

NOW = 1_800_000_000.0
DAY = 86400.0


def place(directory: Path) -> Place:
    return Place(directory / "tls/node.crt", directory / "tls/node.key")


def other(**changes: Any) -> bytes:
    """A certificate that is right but for `changes`."""
    key: Any = changes.get("key") or ec.generate_private_key(changes.get("curve", ec.SECP256R1()))
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, one) for one in changes.get("subject", ["fw1"])])
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, changes["issuer"])]) if "issuer" in changes else subject
    builder = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(dt.datetime(2027, 1, 1, tzinfo=dt.UTC))
        .not_valid_after(dt.datetime(2029, 1, 1, tzinfo=dt.UTC))
    )  # fmt: skip
    if changes.get("basic", True):
        builder = builder.add_extension(x509.BasicConstraints(ca=changes.get("ca", False), path_length=None), True)
    if names := changes.get("alternative", ["fw1"]):
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(one) for one in names]), False)
    signer: Any = changes.get("signer", key)
    return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def test_a_certificate_is_p256_and_bears_its_name_and_two_years() -> None:
    made = make("fw1", NOW)
    one = made.certificate
    assert (one.name, one.not_before, one.not_after) == ("fw1", NOW - DAY, NOW + 730 * DAY)
    assert parse(one.pem) == one
    read = x509.load_der_x509_certificate(one.der)
    assert read.fingerprint(hashes.SHA256()).hex() == one.fingerprint
    assert read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
        x509.DNSName
    ) == ["fw1"]
    assert not read.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert one.public_key.curve.name == "secp256r1"


def test_what_is_signed_with_the_key_is_verified_with_the_certificate() -> None:
    made = make("fw1", NOW)
    signature = made.sign(b"message")
    assert made.certificate.verify(signature, b"message")
    assert not made.certificate.verify(signature, b"another")
    assert not make("fw1", NOW).certificate.verify(signature, b"message")
    assert not made.certificate.verify(b"", b"message")


def test_what_was_made_is_found_again_and_the_key_is_roots_alone(tmp_path: Path) -> None:
    first, is_new = load_or_make(place(tmp_path), "fw1", NOW)
    assert is_new
    again, is_new = load_or_make(place(tmp_path), "fw1", NOW + DAY)
    assert not is_new
    assert again.certificate == first.certificate
    assert stat.S_IMODE(place(tmp_path).key.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "tls").stat().st_mode) == 0o700


def test_a_key_without_certificate_is_made_anew_and_a_certificate_without_key_is_an_error(tmp_path: Path) -> None:
    first, _ = load_or_make(place(tmp_path), "fw1", NOW)
    place(tmp_path).certificate.unlink()
    second, is_new = load_or_make(place(tmp_path), "fw1", NOW)
    assert is_new
    assert second.certificate != first.certificate
    place(tmp_path).key.unlink()
    with pytest.raises(PlatformError, match=r"node\.key is missing"):
        load_or_make(place(tmp_path), "fw1", NOW)


def test_a_crash_while_a_new_one_takes_an_old_ones_place_leaves_no_mixture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = place(tmp_path)
    save(make("fw1", NOW), own)
    for kind in ("key", "crt"):

        def crash(path: Path, data: bytes, *, mode: int, kind: str = kind) -> None:
            if path.suffix == f".{kind}":
                raise OSError(5, "as if the machine had lost its power here", str(path))
            write_durably(path, data, mode=mode)

        with monkeypatch.context() as broken:
            broken.setattr(certificates, "write_durably", crash)
            with pytest.raises(PlatformError):
                save(make("fw9", NOW), own)
        identity, is_new = load_or_make(own, "fw9", NOW)
        assert (identity.certificate.name, is_new) == ("fw9", True)


def test_a_key_that_belongs_to_another_certificate_is_told(tmp_path: Path) -> None:
    save(make("fw1", NOW), place(tmp_path))
    place(tmp_path).key.write_bytes(make("fw1", NOW).key_pem())
    with pytest.raises(PlatformError, match=r"node\.key does not belong to .*node\.crt"):
        load(place(tmp_path))
    place(tmp_path).key.write_text("nothing")
    with pytest.raises(PlatformError, match="no private key"):
        load(place(tmp_path))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"curve": ec.SECP384R1()}, "not EC P-256"),
        ({"key": rsa.generate_private_key(65537, 2048)}, "not EC P-256"),
        ({"subject": ["fw1", "fw2"]}, "not one name"),
        ({"issuer": "somebody"}, "its issuer is another"),
        ({"alternative": []}, "no subjectAltName"),
        ({"alternative": ["fw2"]}, "subjectAltName is not its common name"),
        ({"alternative": ["fw1", "fw2"]}, "subjectAltName is not its common name"),
        ({"subject": ["../fw1"], "alternative": ["../fw1"]}, "not one that a node can have"),
        ({"basic": False}, "no authority"),
        ({"ca": True}, "that of an authority"),
        ({"signer": ec.generate_private_key(ec.SECP256R1())}, "not signed by its own key"),
    ],
)
def test_what_no_node_makes_is_refused_with_the_reason(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(BadCertificate, match=why):
        parse(other(**changes))


def test_dates_are_judged_by_this_nodes_clock() -> None:
    one = make("fw1", NOW).certificate
    check_dates(one, NOW)
    with pytest.raises(BadCertificate, match="expired at"):
        check_dates(one, NOW + 731 * DAY)
    with pytest.raises(BadCertificate, match="is the clock"):
        check_dates(one, NOW - 2 * DAY)
    with pytest.raises(BadCertificate, match="for too long"):
        check_dates(make("fw1", NOW, 5000).certificate, NOW)


def test_one_certificate_is_expected() -> None:
    one = make("fw1", NOW).certificate
    for wrong in (
        b"",
        one.pem + one.pem,
        b"x" * 20000,
        b"-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n",
    ):
        with pytest.raises(BadCertificate):
            parse(wrong)


@given(st.binary(max_size=200), st.integers(0, 600))
def test_any_bytes_are_a_certificate_or_a_bad_one(noise: bytes, at: int) -> None:
    der = bytearray(GOOD.certificate.der)
    der[at : at + len(noise)] = noise
    for data in (bytes(der), noise):
        with contextlib.suppress(BadCertificate):
            assert certificates.parse_der(data).der


GOOD = make("fw1", time.time())
