"""Every way to use an invitation rightly and wrongly, over restarts of the worker that keeps it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from msgspec.structs import replace

from hacore.control.certificates import Identity, make
from hacore.control.invitations import WRONG_ALLOWED, Invitations, PairAnswer, PairRequest
from hacore.control.pairing import Keys, is_answer, transcript
from hacore.control.pairing_token import Token, decode
from hacore.control.problems import ApiError
from hacore.control.trust import TrustStore

NOW = 1_800_000_000.0


class Inviter:
    """fw1, whose worker is started anew before each attempt."""

    def __init__(self, directory: Path, name: str = "fw1") -> None:
        self.own = make(name, NOW)
        self.path = directory / name / "pairing/invitations.json"
        self.store = TrustStore(directory / name / "tls/peers.pem")

    def invite(self, valid_for: float = 900.0) -> Token:
        return decode(Invitations(self.path).invite(self.own.certificate, NOW, valid_for)[0])

    def accept(self, request: PairRequest, later: float = 1.0) -> PairAnswer:
        return Invitations(self.path).accept(request, self.own, self.store, NOW + later)[0]

    def refuses(self, request: PairRequest, later: float = 1.0) -> str:
        before = self.store.read()
        with pytest.raises(ApiError) as caught:
            self.accept(request, later)
        assert self.store.read() == before
        return caught.value.code


@pytest.fixture
def fw1(tmp_path: Path) -> Inviter:
    return Inviter(tmp_path)


FW2 = make("fw2", NOW)


def ask(token: Token, who: Identity = FW2, *, secret: bytes = b"", signer: Identity | None = None) -> PairRequest:
    nonce = os.urandom(32)
    signed = transcript(token.id, token.fingerprint, who.certificate.fingerprint, nonce)
    return PairRequest(
        token=token.id.hex(), certificate=who.certificate.pem.decode(), nonce=nonce.hex(),
        proof=Keys(secret or token.secret).prove(signed), possession=(signer or who).sign(signed),
    )  # fmt: skip


def test_a_node_with_the_token_is_trusted_and_told_so(fw1: Inviter) -> None:
    token = fw1.invite()
    request = ask(token)
    answer = fw1.accept(request)
    assert fw1.store.read().peers == (FW2.certificate,)
    assert (answer.name, answer.certificate) == ("fw1", fw1.own.certificate.pem.decode())
    signed = transcript(token.id, token.fingerprint, FW2.certificate.fingerprint, bytes.fromhex(request.nonce))
    assert is_answer(Keys(token.secret).answer_key, answer.proof, signed)
    assert not is_answer(Keys(os.urandom(16)).answer_key, answer.proof, signed)


def test_the_secret_is_not_on_the_disk_and_the_file_is_roots(fw1: Inviter) -> None:
    token = fw1.invite()
    content = fw1.path.read_bytes()
    assert token.secret.hex().encode() not in content
    assert stat.S_IMODE(fw1.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(fw1.path.parent.stat().st_mode) == 0o700


def test_a_token_serves_one_node_once(fw1: Inviter) -> None:
    token = fw1.invite()
    fw1.accept(ask(token))
    assert fw1.refuses(ask(token, make("fw3", NOW))) == "pairing-token-used"
    fw1.accept(ask(token))  # the answer was lost: the same node asks again
    Invitations(fw1.path).confirm(token.id.hex(), FW2.certificate)
    assert fw1.refuses(ask(token)) == "pairing-token-used"
    assert fw1.refuses(ask(token), later=90_000.0) == "pairing-token-used"


def test_only_the_node_that_joined_confirms(fw1: Inviter) -> None:
    token = fw1.invite()
    fw1.accept(ask(token))
    with pytest.raises(ApiError) as caught:
        Invitations(fw1.path).confirm(token.id.hex(), make("fw3", NOW).certificate)
    assert caught.value.code == "pairing-token-unknown"


def test_a_request_made_again_is_a_replay(fw1: Inviter) -> None:
    token = fw1.invite()
    request = ask(token)
    fw1.accept(request)
    assert fw1.refuses(request) == "pairing-replayed"
    wrong = ask(fw1.invite(), secret=b"x" * 16)
    assert fw1.refuses(wrong) == "pairing-wrong-secret"
    assert fw1.refuses(wrong) == "pairing-replayed"


def test_a_proof_is_worth_nothing_for_another_certificate_or_number(fw1: Inviter) -> None:
    token = fw1.invite()
    right = ask(token)
    fw3 = make("fw3", NOW)
    stolen = replace(ask(token, fw3), proof=right.proof)
    assert fw1.refuses(stolen) == "pairing-wrong-secret"
    assert fw1.refuses(replace(right, nonce=os.urandom(32).hex())) == "pairing-wrong-secret"
    fw1.accept(right)


def test_the_certificate_must_be_the_senders(fw1: Inviter) -> None:
    assert fw1.refuses(ask(fw1.invite(), signer=make("fw2", NOW))) == "pairing-no-possession"


def test_an_expired_token_is_told_from_one_that_never_was(fw1: Inviter, tmp_path: Path) -> None:
    token = fw1.invite(valid_for=60.0)
    assert fw1.refuses(ask(token), later=61.0) == "pairing-token-expired"
    assert fw1.refuses(ask(Inviter(tmp_path, "fw9").invite())) == "pairing-token-unknown"
    fw1.accept(ask(token), later=60.0)


def test_wrong_secrets_burn_the_token_only_when_there_are_many(fw1: Inviter) -> None:
    token, other = fw1.invite(), fw1.invite()
    for _ in range(WRONG_ALLOWED - 1):
        assert fw1.refuses(ask(token, secret=os.urandom(16))) == "pairing-wrong-secret"
    for _ in range(WRONG_ALLOWED):
        assert fw1.refuses(ask(other, secret=os.urandom(16))) == "pairing-wrong-secret"
    assert fw1.refuses(ask(other)) == "pairing-token-burnt"
    fw1.accept(ask(token))


def test_a_node_does_not_pair_with_itself_or_its_namesake(fw1: Inviter) -> None:
    token = fw1.invite()
    assert fw1.refuses(ask(token, fw1.own)) == "pairing-own-token"
    assert fw1.refuses(ask(token, make("fw1", NOW))) == "pairing-same-name"
    fw1.accept(ask(token))
    assert fw1.refuses(ask(fw1.invite(), make("fw2", NOW))) == "pairing-name-taken"


def test_a_node_whose_certificate_has_expired_is_paired_anew(fw1: Inviter) -> None:
    fw1.store.add(make("fw2", NOW - 800 * 86400).certificate)
    fw1.accept(ask(fw1.invite()))
    assert fw1.store.read().peers == (FW2.certificate,)


def test_a_revoked_node_needs_a_new_token(fw1: Inviter) -> None:
    token = fw1.invite()
    fw1.accept(ask(token))
    fw1.store.revoke("fw2")
    assert fw1.refuses(ask(token)) == "pairing-token-used"
    fw1.accept(ask(fw1.invite()))
    assert fw1.store.read().peers == (FW2.certificate,)


def test_a_crash_between_the_invitation_and_the_trust_file_can_be_made_good(fw1: Inviter) -> None:
    token = fw1.invite()
    fw1.accept(ask(token))
    fw1.store.path.unlink()
    assert fw1.refuses(ask(token, make("fw3", NOW))) == "pairing-token-used"
    fw1.accept(ask(token))
    assert fw1.store.read().peers == (FW2.certificate,)


@pytest.mark.parametrize(
    "changes",
    [
        {"token": "00"},
        {"token": "zz" * 6},
        {"nonce": ""},
        {"nonce": "AB" * 32},
        {"proof": b""},
        {"possession": b"x" * 81},
        {"certificate": ""},
        {"certificate": "x" * 100_000},
        {"certificate": make("fw2", NOW, 9000).certificate.pem.decode()},
        {"certificate": make("fw2", NOW - 800 * 86400).certificate.pem.decode()},
    ],
)
def test_a_request_of_the_wrong_form_is_refused(fw1: Inviter, changes: dict[str, str]) -> None:
    token = fw1.invite()
    assert fw1.refuses(replace(ask(token), **changes)) in ("bad-request", "bad-certificate")
    fw1.accept(ask(token))


@pytest.mark.parametrize("seconds", [0.0, -1.0, 86401.0, float("nan"), float("inf")])
def test_a_validity_out_of_bounds_is_refused(fw1: Inviter, seconds: float) -> None:
    with pytest.raises(ApiError, match="valid for 1 to 86400 s"):
        fw1.invite(seconds)


def test_there_are_not_more_than_eight_open_at_once(fw1: Inviter) -> None:
    for _ in range(8):
        fw1.invite()
    with pytest.raises(ApiError, match="8 tokens"):
        fw1.invite()
