"""The renewal as the control worker does it: tells the peers, and goes on until the last one knows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

from hacore.control.certificates import Certificate, load, moment
from hacore.control.pairing import renewal
from hacore.control.pairs import Pairs
from hacore.control.problems import ApiError
from hacore.control.renewal import Journal, Renewal
from hacore.control.routes_pairing import CertificateGiven, CertificatesKnown
from hacore.errors import HacoreError

if TYPE_CHECKING:
    from hacore.control.worker import ControlWorker

AGAIN = 5.0  # seconds until a peer that did not answer is asked again
TELL_TIMEOUT = 5.0

Word = Literal["made", "told", "not told", "switched", "confirmed", "not confirmed", "waiting", "done"]
#: What was done, with which peer, about which certificate, and what there is to say.
Step = tuple[Word, str, Certificate | None, str]


class Renewing:
    """A part of the worker."""

    def __init__(self, worker: ControlWorker) -> None:
        self._worker = worker
        self._pairs = worker.part(Pairs)
        self._renewal: Renewal | None = None
        self._alone = asyncio.Lock()
        self._awake = asyncio.Event()
        worker.on_start(self._start)

    async def _start(self) -> None:
        try:
            self._renewal = Renewal(self._pairs.place, self._pairs.directory / "renewal.json")
            await self._pairs.change(self._renewal.settle)
        except HacoreError as error:
            self._worker.warnings["renewal"] = str(error)
            return
        self._worker.spawn(self._go_on(), "renewal of the certificate")

    @property
    def journal(self) -> Journal | None:
        """What is under way."""
        return self._renewal.under_way if self._renewal is not None else None

    def waiting_for(self) -> list[str]:
        """The peers that are to be told."""
        return self._renewal.to_tell(self._pairs.store.read().names) if self._renewal is not None else []

    def wake(self) -> None:
        """Something changed: look at once."""
        self._awake.set()

    async def renew(self) -> AsyncIterator[Step]:
        """Begin, or go on; the steps that can be made now. Raises ApiError, PlatformError."""
        if self._renewal is None:
            raise ApiError(500, "not-configured", self._worker.warnings.get("renewal", "the worker has just begun"))
        async with self._alone:
            under_way = self._renewal
            if under_way.under_way is None:
                own = load(self._pairs.place)
                if own is None:
                    raise ApiError(
                        409, "not-paired", "this node has no certificate yet", "hacore pair invite, or hacore pair join"
                    )
                await self._pairs.change(lambda: under_way.begin(own.certificate, time.time()))
                made = under_way.new_identity().certificate
                self._pairs.record(f"new certificate made, until {moment(made.not_after)}", made)
            yield "made", "", under_way.new_identity().certificate, ""
            async for step in self._steps():
                yield step
        self.wake()

    async def _go_on(self) -> None:
        """For as long as the worker lives: nobody has to ask again for what could not be done at once."""
        while True:
            if self.journal is not None and not self._alone.locked():
                async with self._alone:
                    try:
                        async for _step in self._steps():
                            pass
                        self._worker.warnings.pop("renewal", None)
                    except HacoreError as error:
                        self._worker.warnings["renewal"] = f"the renewal of the certificate goes not on: {error}"
            self._awake.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._awake.wait(), AGAIN if self.journal is not None else None)

    async def _steps(self) -> AsyncIterator[Step]:
        """Everything that can be done now."""
        assert self._renewal is not None
        work = self._renewal
        while (journal := work.under_way) is not None:
            switched = journal.switched
            own = self._pairs.own()
            if own is None or own.fingerprint != (journal.new if switched else journal.old):
                await self._pairs.change(work.abandon)
                self._pairs.record("the renewal is abandoned: this node's certificate was replaced meanwhile")
                return
            for name in self.waiting_for():
                problem = await self._tell(name, journal)
                if problem is None:
                    await self._pairs.change(lambda name=name: work.told(name))  # type: ignore[misc]
                    yield ("confirmed" if switched else "told"), name, None, ""
                else:
                    yield ("not confirmed" if switched else "not told"), name, None, str(problem)
            left = self.waiting_for()
            if left and (switched or not self._has_expired()):
                why = "is told when it answers; until then " + (
                    "it trusts the old certificate, too" if switched else "this node uses its old certificate"
                )
                yield "waiting", ", ".join(left), None, f"{', '.join(left)} {why}"
                return
            certificate = work.new_identity().certificate
            if switched:
                await self._pairs.change(work.end)
                yield "done", "", certificate, ""
            else:
                await self._pairs.change(work.switch)
                self._pairs.record(
                    f"the new certificate is in use, until {moment(certificate.not_after)}"
                    + (f"; not told: {', '.join(left)} (the old one has expired)" if left else ""),
                    certificate,
                )
                await self._worker.trust_changed()
                yield "switched", "", certificate, ""

    def _has_expired(self) -> bool:
        own = self._pairs.own()
        return own is None or time.time() > own.not_after

    async def _tell(self, name: str, journal: Journal) -> ApiError | None:
        """Over the certificate in use now; what kept the peer from knowing."""
        assert self._renewal is not None
        own = self._pairs.own()
        if own is None:
            return ApiError(500, "not-paired", "this node's certificate is gone")
        new = self._renewal.new_identity()
        given = CertificateGiven(
            certificate=new.certificate.pem.decode(),
            possession=new.sign(renewal(own.fingerprint, new.certificate.fingerprint, name)),
        )
        try:
            known = await self._worker.peer(name).ask(
                "PUT", "/certificate", given, response=CertificatesKnown, timeout=TELL_TIMEOUT
            )
        except ApiError as error:
            return error
        if journal.new not in known.fingerprints:
            return ApiError(502, "unexpected", f"{name} took the new certificate and does not know it")
        return None
