"""What a stranger, or a node that does not know what it does, may ask of the routes of pairing: all refused, each with
its own code, one line of the history each, and nothing trusted.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from msgspec.structs import replace

from hacore.control import tls
from hacore.control.certificates import Certificate, Identity, Place, make, save
from hacore.control.client import PeerClient
from hacore.control.invitations import PairRequest
from hacore.control.pairing import Keys, renewal, transcript
from hacore.control.pairing_token import Token, decode
from hacore.control.pairs import Pairs, endpoint
from hacore.control.problems import ApiError
from hacore.control.routes_pairing import CertificateGiven, CertificatesKnown
from hacore.control.schemas import NodeAnswer
from hacore.control.trust import TrustStore
from tests.control.worker_pair import Played, pair, until

Story = Callable[["Bench"], Coroutine[Any, Any, None]]
NOW = time.time()


class Bench:
    """fw1 invites; `send` is anybody's HTTP request to it."""

    def __init__(self, one: Played, two: Played) -> None:
        self.one, self.two = one, two
        self.pairs = one.worker.part(Pairs)
        control = one.worker.settings.control
        assert control is not None
        self.place = control.listen
        self.store = TrustStore(control.trust)
        self.own = self.pairs.own()
        assert self.own is not None
        self.stranger = make("fw3", time.time())

    async def token(self, valid_for: float = 900.0) -> Token:
        return decode((await self.pairs.invite(valid_for))[0])

    def request(self, token: Token, who: Identity | None = None, secret: bytes = b"") -> PairRequest:
        who = who or self.stranger
        nonce = os.urandom(32)
        signed = transcript(token.id, token.fingerprint, who.certificate.fingerprint, nonce)
        return PairRequest(
            token=token.id.hex(), certificate=who.certificate.pem.decode(), nonce=nonce.hex(),
            proof=Keys(secret or token.secret).prove(signed), possession=who.sign(signed),
        )  # fmt: skip

    async def send(self, body: Any, path: str = "/pair", method: str = "POST") -> tuple[int, dict[str, Any]]:
        data = body if isinstance(body, bytes) else msgspec.json.encode(body)
        connector = aiohttp.TCPConnector(ssl=tls.joining_context())
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.request(
                method, f"https://{self.place}/v1{path}", data=data, headers={"Content-Type": "application/json"}
            ) as answer,
        ):
            return answer.status, msgspec.json.decode(await answer.read())

    async def refuses(self, body: Any, code: str, path: str = "/pair", method: str = "POST") -> str:
        before, lines = self.store.read(), len(self.one.refusals())
        status, answer = await self.send(body, path, method)
        assert answer.get("error", {}).get("code") == code, answer
        assert 400 <= status < 500
        assert self.store.read() == before
        await until(lambda: len(self.one.refusals()) > lines)
        assert len(self.one.refusals()) == lines + 1
        assert answer["error"]["message"] in self.one.refusals()[-1]
        return str(answer["error"]["message"])


def play(directory: Path, story: Story) -> None:
    async def run() -> None:
        async with pair(directory) as (one, two):
            await story(Bench(one, two))

    asyncio.run(run())


def test_each_wrong_attempt_has_its_own_code_and_its_own_line(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        token = await bench.token()
        right = bench.request(token)
        texts = [
            await bench.refuses(replace(right, token="00" * 6), "pairing-token-unknown"),
            await bench.refuses(bench.request(token, secret=b"x" * 16), "pairing-wrong-secret"),
            await bench.refuses(replace(right, possession=b"nothing"), "pairing-no-possession"),
            await bench.refuses(bench.request(token, make("fw1", NOW)), "pairing-same-name"),
            await bench.refuses(bench.request(token, make("fw2", NOW)), "pairing-name-taken"),
            await bench.refuses(bench.request(token, make("fw3", NOW - 10**9)), "bad-certificate"),
            await bench.refuses(replace(right, nonce="x"), "bad-request"),
            await bench.refuses(b"{}", "bad-request"),
            await bench.refuses(b"\xff" * 100, "bad-request"),
            await bench.refuses(b" " * 40_000, "too-large"),
            await bench.refuses(replace(right, certificate="x" * 20_000), "bad-certificate"),
        ]
        status, _ = await bench.send(right)
        assert status == 200
        texts += [
            await bench.refuses(right, "pairing-replayed"),
            await bench.refuses(bench.request(token, make("fw4", NOW)), "pairing-token-used"),
            await bench.refuses({"token": token.id.hex()}, "no-certificate", "/pair/confirm"),
            await bench.refuses(
                {"certificate": "", "possession": ""}, "no-certificate", "/certificate", "PUT"
            ),
        ]  # fmt: skip
        assert len(set(texts)) == len(texts) - 1  # the last two are one

    play(tmp_path, story)


def test_an_expired_and_a_burnt_token(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        short = await bench.token(1.0)
        await asyncio.sleep(2.1)  # the end of a validity is no thing to wait for otherwise
        await bench.refuses(bench.request(short), "pairing-token-expired")
        burnt = await bench.token()
        for _ in range(5):
            await bench.refuses(bench.request(burnt, secret=os.urandom(16)), "pairing-wrong-secret")
        await bench.refuses(bench.request(burnt), "pairing-token-burnt")

    play(tmp_path, story)


def test_a_flood_of_attempts_is_held_back_and_a_token_survives_it(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        token = await bench.token()
        codes = []
        for _ in range(40):
            _, answer = await bench.send(replace(bench.request(token), token=os.urandom(6).hex()))
            codes.append(answer["error"]["code"])
        assert "too-many-attempts" in codes
        assert set(codes) == {"pairing-token-unknown", "too-many-attempts"}
        assert bench.pairs.attempts.held_back == codes.count("too-many-attempts")
        while (await bench.send(bench.request(token)))[0] == 429:
            await asyncio.sleep(0.2)
        assert bench.store.read().of("fw3")

    play(tmp_path, story)


def test_a_joining_node_tells_who_answers_in_place_of_the_inviting_one(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        token = await bench.token()
        text = (await bench.pairs.invite(900.0))[0]
        theirs = bench.two.worker.part(Pairs)
        control = bench.two.worker.settings.control
        assert control is not None
        nobody = (await _refused(theirs.join(text, "127.0.0.1:1"))).code
        assert nobody == "refused"
        assert (await _refused(theirs.join(text, "no-such-host.invalid"))).code == "name-not-found"
        assert (await _refused(theirs.join(text, str(control.listen)))).code == "pairing-other-node"
        assert (await _refused(theirs.join("hacore-123", "127.0.0.1"))).code == "bad-token"
        assert (await _refused(theirs.join(text, "host:port:"))).code == "bad-request"
        plain = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
        port = plain.sockets[0].getsockname()[1]
        assert (await _refused(theirs.join(text, f"127.0.0.1:{port}"))).code in ("connection-lost", "tls", "version")
        plain.close()
        told = [text for kind, text, _ in bench.two.events if kind == "pairing" and "failed" in text]
        assert len(told) == 4
        assert token.secret.hex() not in str(bench.two.events)

    play(tmp_path, story)


def test_a_server_that_does_not_know_the_secret_is_not_trusted(tmp_path: Path) -> None:
    """It has the certificate's key, as somebody who stole it, but did not make the token."""

    async def story(bench: Bench) -> None:
        text, invitation, _own_identity = await bench.pairs.invite(900.0)
        invitation.answer_key = "00" * 32
        theirs = bench.two.worker.part(Pairs)
        TrustStore(theirs.store.path).revoke("fw1")
        bench.store.revoke("fw2")
        error = await _refused(theirs.join(text, str(bench.place)))
        assert error.code == "pairing-no-proof"
        assert theirs.store.read().of("fw1") == ()

    play(tmp_path, story)


async def _refused(work: Coroutine[Any, Any, Any]) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await work
    return caught.value


def test_a_peer_renews_its_own_certificate_and_no_other(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        peer = bench.two.worker.peer("fw1")
        theirs = bench.two.worker.part(Pairs)
        old = theirs.own()
        assert old is not None

        async def give(new: Identity, *, signer: Identity | None = None, to: str = "fw1") -> CertificatesKnown:
            signed = renewal(old.fingerprint, new.certificate.fingerprint, to)
            given = CertificateGiven(certificate=new.certificate.pem.decode(), possession=(signer or new).sign(signed))
            return await peer.ask("PUT", "/certificate", given, response=CertificatesKnown)

        next_one = make("fw2", NOW)
        before = bench.store.read()
        assert (await _refused(give(make("fw9", NOW)))).code == "renewal-name"
        assert (await _refused(give(next_one, signer=make("fw2", NOW)))).code == "renewal-no-possession"
        assert (await _refused(give(next_one, to="fw9"))).code == "renewal-no-possession"
        assert (await _refused(give(make("fw2", NOW - 10**9)))).code == "bad-certificate"
        assert bench.store.read() == before
        known = await give(next_one)
        assert known.fingerprints == [old.fingerprint, next_one.certificate.fingerprint]
        assert await give(next_one) == known

    play(tmp_path, story)


def test_revoking_ends_what_is_open(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        peer = bench.two.worker.peer("fw1")
        await peer.ask("GET", "/node", response=NodeAnswer)
        gone, closed = await bench.pairs.revoke("fw2")
        assert [one.name for one in gone] == ["fw2"]
        assert closed == 1
        error = await _refused(peer.ask("GET", "/node", response=NodeAnswer))
        assert error.code == "certificate-revoked"
        stranger = bench.stranger
        place = Place(tmp_path / "s.crt", tmp_path / "s.key")
        save(stranger, place)
        client = PeerClient("fw1", bench.place, place, [_own(bench)])
        assert (await _refused(client.ask("GET", "/node", response=NodeAnswer))).code == "certificate-unknown"
        await client.close()

    play(tmp_path, story)


def _own(bench: Bench) -> Certificate:
    assert bench.own is not None
    return bench.own


def test_older_versions_of_tls_are_refused(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(ssl.SSLError):
            await asyncio.open_connection(bench.place.host, bench.place.port, ssl=context)
        await until(lambda: any("1.3 is needed" in text for text in bench.one.refusals()))

    play(tmp_path, story)


@pytest.mark.parametrize(
    ("via", "place"),
    [
        ("10.9.0.1", "10.9.0.1:8117"), ("10.9.0.1:99", "10.9.0.1:99"), ("fw1.example", "fw1.example:8117"),
        ("2001:db8::1", "[2001:db8::1]:8117"), ("[2001:db8::1]", "[2001:db8::1]:8117"),
        ("[2001:db8::1]:99", "[2001:db8::1]:99"), (" fw1 ", "fw1:8117"),
    ],
)  # fmt: skip
def test_where_to_join(via: str, place: str) -> None:
    assert str(endpoint(via)) == place


@pytest.mark.parametrize("via", ["", ":", "fw1:0", "fw1:99999", "[x]", "a b", "http://fw1", "::1:2:3:4:5:6:7:8:9"])
def test_where_not_to_join(via: str) -> None:
    with pytest.raises(ApiError, match="via"):
        endpoint(via)
