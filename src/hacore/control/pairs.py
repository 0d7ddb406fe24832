"""Pairing as the control worker does it: whom this node trusts, and how that comes and goes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from hacore.control import certificates, joining
from hacore.control.attempts import Attempts
from hacore.control.certificates import BadCertificate, Certificate, Identity, Place, check_dates, expiry, moment, parse
from hacore.control.file_looks import FileLooks
from hacore.control.invitations import Invitation, Invitations, PairAnswer, PairRequest
from hacore.control.pairing import renewal
from hacore.control.pairing_token import BadToken, Token, decode
from hacore.control.problems import ApiError, bad_request, not_found
from hacore.control.trust import Trust, TrustStore, file_mark
from hacore.errors import PlatformError
from hacore.node.settings_values import Endpoint
from hacore.node.snapshot import CertificateStatus

if TYPE_CHECKING:
    from hacore.control.worker import ControlWorker

DIRECTORY = "pairing"
PORT = 8117

T = TypeVar("T")


class Pairs:
    """A part of the worker. Files are read and written in threads, one change at a time."""

    def __init__(self, worker: ControlWorker) -> None:
        self._worker = worker
        self._changing = asyncio.Lock()
        self.attempts = Attempts()
        self._invitations: Invitations | None = None
        self._seen: list[tuple[int, int] | None] = []
        self._own: tuple[tuple[int, int] | None, Certificate | None] = None, None
        self._looks: FileLooks | None = None
        worker.on_start(self._start)
        worker.on_stop(self._stop)
        worker.on_trust(self._trust_changed)

    async def _start(self) -> None:
        try:
            await self.change(self.store.settle)
        except PlatformError as error:
            self._worker.warnings["trust"] = str(error)
        self._looks = FileLooks(self._files())
        self._worker.spawn(self._watch(self._looks), "watching the certificates")

    async def _stop(self) -> None:
        if self._looks is not None:
            self._looks.close()

    async def _watch(self, looks: FileLooks) -> None:
        """Files that somebody else replaces are used, too; and the day of an expiry comes."""
        while True:
            await looks.wait()
            if self._marks() != self._seen:
                await self._worker.trust_changed()
            self._tell()
            self.end_expired(time.time())

    def end_expired(self, now: float) -> None:
        """A connection ends with the certificate it was made with: TLS looks at the dates only when it begins."""
        own, peers = self.own(), self._worker.trust.peers
        all_end = own is not None and own.not_after < now
        if expired := [one.der for one in peers if all_end or one.not_after < now]:
            self._worker.server.drop(expired)

    def _files(self) -> list[Path]:
        store = self.store
        return [*self.place, store.path, store.revoked_path]

    def _marks(self) -> list[tuple[int, int] | None]:
        return [file_mark(path) for path in self._files()]

    def _trust_changed(self) -> None:
        if self._looks is not None:
            self._looks.follow(self._files())
        self._seen = self._marks()
        own = self.own()
        self._worker.certificates = [
            CertificateStatus(name=one.name, own=one is own, fingerprint=one.fingerprint, expires=one.not_after)
            for one in ([own] if own is not None else []) + [*self._worker.trust.peers]
        ]
        self._tell()

    def _tell(self) -> None:
        """The warnings of `status`."""
        warnings = self._worker.warnings
        wanted = {f"certificate {index}": text for index, text in enumerate(self.warnings(time.time()))}
        for key in [key for key in warnings if key.startswith("certificate ") and key not in wanted]:
            warnings.pop(key)
        for key, text in wanted.items():
            if warnings.get(key) != text:
                warnings[key] = text

    # What there is

    @property
    def place(self) -> Place:
        """Where this node's certificate and key are."""
        control = self._worker.settings.control
        assert control is not None
        return Place(control.certificate, control.key)

    @property
    def store(self) -> TrustStore:
        """The trust file."""
        control = self._worker.settings.control
        assert control is not None
        return TrustStore(control.trust)

    @property
    def directory(self) -> Path:
        """Where invitations and a renewal's journal are kept."""
        return self._worker.state_dir / DIRECTORY

    @property
    def invitations(self) -> Invitations:
        """Those of this node. Raises PlatformError."""
        if self._invitations is None:
            self._invitations = Invitations(self.directory / "invitations.json")
        return self._invitations

    def own(self) -> Certificate | None:
        """This node's certificate, None where there is none (or none that can be used: `warnings` says so).

        Parsed only when the file is another: that costs more than all else that an idle worker does in a second.
        """
        mark = file_mark(self.place.certificate)
        if mark is None or mark != self._own[0]:
            try:
                self._own = mark, parse(self.place.certificate.read_bytes())
            except (OSError, BadCertificate):
                return None
        return self._own[1]

    def warnings(self, now: float) -> list[str]:
        """What is to be done about certificates, a sentence each."""
        own = self.own()
        said = [expiry(own, now, "this node's certificate", "hacore pair renew")] if own is not None else []
        said += [
            expiry(one, now, f"the certificate of {one.name}", f"on {one.name}: hacore pair renew")
            for one in self._worker.trust.peers
        ]
        return [f"{finding} ({remedy})" for finding, remedy in filter(None, said)]

    async def change(self, work: Callable[[], T]) -> T:
        """Runs this in a thread, alone."""
        async with self._changing:
            return await asyncio.to_thread(work)

    async def identity(self) -> Identity:
        """This node's; made where there is none, and anew where it has expired or bears another name."""
        name, now = self._worker.name, time.time()

        def ready() -> tuple[Identity, str]:
            found, is_new = certificates.load_or_make(self.place, name, now)
            why = "there was none" if is_new else ""
            if found.certificate.name != name:
                why = f"the old one is for {found.certificate.name}"
            elif now > found.certificate.not_after:
                why = "the old one has expired"
            if why and not is_new:
                found = certificates.make(name, now)
                certificates.save(found, self.place)
            return found, why

        found, why = await self.change(ready)
        if why:
            self.record(f"certificate made ({why}), until {moment(found.certificate.not_after)}", found.certificate)
            await self._worker.trust_changed()
        return found

    def record(self, text: str, certificate: Certificate | None = None) -> None:
        """One line of the event history."""
        fingerprint = {"fingerprint": certificate.fingerprint} if certificate is not None else {}
        self._worker.record("pairing", text, **fingerprint)

    # The inviting node

    async def invite(self, valid_for: float) -> tuple[str, Invitation, Identity]:
        """A new token. Raises ApiError, PlatformError."""
        own = await self.identity()
        token, made = await self.change(lambda: self.invitations.invite(own.certificate, time.time(), valid_for))
        self.record(f"invitation made, to be used once until {moment(made.expires)}")
        return token, made, own

    async def accept(self, request: PairRequest, source: str) -> PairAnswer:
        """A node wants to join. Raises ApiError."""
        wait = self.attempts.wait_time(source, time.monotonic())
        if wait:
            raise ApiError(
                429, "too-many-attempts", f"too many attempts to pair from {source}", f"wait {wait:.1f} s", wait=wait
            )
        own = await self.identity()
        try:
            answer, certificate = await self.change(
                lambda: self.invitations.accept(request, own, self.store, time.time())
            )
        except ApiError:
            self.attempts.refused += 1
            raise
        self.record(f"{certificate.name} joined from {source} and is trusted from now on", certificate)
        await self._worker.trust_changed()
        return answer

    async def confirm(self, token: str, name: str, der: bytes) -> None:
        """The joined node knows that it is paired. Raises ApiError."""
        certificate = self.known(name, der)
        await self.change(lambda: self.invitations.confirm(token, certificate))

    def known(self, name: str, der: bytes) -> Certificate:
        """The certificate that a peer showed. Raises ApiError where it has been revoked meanwhile."""
        found = self.store.read().find(der)
        if found is None:
            raise ApiError(403, "certificate-revoked", f"{self._worker.name} does not trust {name} any more")
        return found

    # The joining node

    async def join(self, text: str, via: str) -> tuple[Certificate, list[str]]:
        """Join with a token; returns the inviting node's certificate, and what is left to do. Raises ApiError."""
        try:
            token = decode(text)
            place = endpoint(via)
        except BadToken as error:
            raise ApiError(400, "bad-token", str(error), "copy it anew from the node that printed it") from None
        try:
            return await self._join(token, place)
        except ApiError as error:
            self.record(f"joining {token.name} via {place} failed: {error.message}")
            raise

    async def _join(self, token: Token, place: Endpoint) -> tuple[Certificate, list[str]]:
        worker = self._worker
        own = await self.identity()
        if token.fingerprint == own.certificate.fingerprint:
            raise ApiError(
                409, "pairing-own-token", f"this token was made by this very node, {worker.name}",
                "run hacore pair join on the other node",
            )  # fmt: skip
        if token.name == worker.name:
            raise ApiError(
                409, "pairing-same-name", f"the inviting node is called {token.name}, as this one is",
                "give one of them another [node] name",
            )  # fmt: skip
        now = time.time()
        trusted = [one for one in self.store.read().of(token.name) if one.is_valid_at(now)]
        is_known = any(one.fingerprint == token.fingerprint for one in trusted)
        if trusted and not is_known:
            raise ApiError(
                409, "pairing-name-taken", f"this node already trusts another certificate of a node named {token.name}",
                f"if that is to be replaced, here: hacore pair revoke {token.name}",
            )  # fmt: skip
        certificate = await joining.join(token, place, own, now)
        if not is_known:
            await self.change(lambda: self.store.keep_only(certificate))
        self.record(f"joined {certificate.name} via {place}; it is trusted from now on", certificate)
        await worker.trust_changed()
        left = []
        try:
            await joining.confirm(token, place, self.place, certificate)
        except ApiError as error:
            left.append(f"the first call with both certificates failed: {error.message}")
        if all(peer.name != certificate.name for peer in worker.settings.peers):
            left.append(
                f'{worker.settings.path} has no [[peer]] with name = "{certificate.name}": add it, with '
                f'control = "{place}", and reload'
            )
        return certificate, left

    # Both

    async def revoke(self, name: str) -> tuple[tuple[Certificate, ...], int]:
        """Trust it no more; returns what was trusted and how many connections were closed. Raises ApiError."""
        gone = await self.change(lambda: self.store.revoke(name))
        if not gone:
            names = ", ".join(self.store.read().names) or "nobody"
            raise not_found(f"this node does not trust a node named {name}; it trusts: {names}")
        await self._worker.trust_changed()
        closed = self._worker.server.drop({one.der for one in gone})
        self.record(f"{name} is not trusted any more (connections closed: {closed})", gone[-1])
        return gone, closed

    async def take_certificate(self, name: str, shown: bytes, pem: str, possession: bytes) -> Trust:
        """A peer's next certificate, or its present one, which replaces all others of it. Raises ApiError."""
        known = self.known(name, shown)
        try:
            given = parse(pem)
            check_dates(given, time.time())
        except BadCertificate as error:
            raise ApiError(422, "bad-certificate", str(error)) from None
        if given.name != name:
            raise ApiError(
                403, "renewal-name", f"{name} gives a certificate of {given.name}: it may renew its own only"
            )
        if not given.verify(possession, renewal(known.fingerprint, given.fingerprint, self._worker.name)):
            raise ApiError(
                403, "renewal-no-possession", "the new certificate is not the sender's: its key did not sign"
            )
        before = self.store.read()
        if before.is_revoked(given.der):
            raise ApiError(403, "certificate-revoked", f"this certificate of {name} was revoked here")
        if given.der == known.der:
            trust = await self.change(lambda: self.store.keep_only(given))
            if before.of(name) != trust.of(name):
                self.record(f"{name} uses its new certificate; the old one is not trusted any more", given)
        else:
            trust = await self.change(lambda: self.store.add(given))
            if given not in before.peers:
                self.record(f"{name} announces its next certificate, until {moment(given.not_after)}", given)
        await self._worker.trust_changed()
        return trust


def endpoint(via: str) -> Endpoint:
    """HOST, HOST:PORT, an IPv6 address or [ADDRESS]:PORT. Raises ApiError."""
    from hacore.node import settings_values

    text = via.strip()
    bare = text.strip("[]")
    try:
        if text.count(":") > 1 and not text.startswith("["):
            text = f"[{bare}]"
        if text.endswith("]") or ":" not in text:
            text = f"{text}:{PORT}"
        return settings_values.endpoint(text)
    except ValueError as error:
        raise bad_request(f"--via: {error}") from None
