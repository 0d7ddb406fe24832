"""`hacore pair`, as the command line asks the worker for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from hacore.control.certificates import Certificate
from hacore.control.invitations import WRONG_ALLOWED
from hacore.control.pairing_answers import (
    Attempted,
    CertificateShown,
    InviteAnswer,
    InviteRequest,
    JoinAnswer,
    JoinRequest,
    OpenInvitation,
    PairedNode,
    PairList,
    RenewalUnderWay,
    RenewStep,
    RevokeAnswer,
    RevokeRequest,
)
from hacore.control.pairs import Pairs
from hacore.control.problems import ApiError
from hacore.control.registry import Call, Route
from hacore.control.renewing import Renewing
from hacore.control.schemas import NodeAnswer, Problem

if TYPE_CHECKING:
    from hacore.control.worker import ControlWorker

LIST_TIMEOUT = 5.0


def routes(worker: ControlWorker) -> list[Route]:
    """Served on the Unix socket."""
    pairs, renewing = worker.part(Pairs), worker.part(Renewing)

    async def invite(call: Call) -> InviteAnswer:
        token, made, own = await pairs.invite(call.body.valid_for)
        control = worker.settings.control
        return InviteAnswer(
            node=worker.name, token=token, fingerprint=own.certificate.fingerprint, expires=made.expires,
            listen=str(control.listen) if control else "",
        )  # fmt: skip

    async def join(call: Call) -> JoinAnswer:
        found, left = await pairs.join(call.body.token, call.body.via)
        return JoinAnswer(
            node=worker.name, name=found.name, fingerprint=found.fingerprint, expires=found.not_after, left=left
        )

    async def revoke(call: Call) -> RevokeAnswer:
        gone, closed = await pairs.revoke(call.body.name)
        renewing.wake()
        return RevokeAnswer(
            node=worker.name, name=call.body.name, fingerprints=[one.fingerprint for one in gone], closed=closed
        )

    async def renew(_call: Call) -> AsyncIterator[RenewStep]:
        async for step, peer, certificate, message in renewing.renew():
            yield RenewStep(
                step=step,
                peer=peer,
                fingerprint=certificate.fingerprint if certificate else "",
                expires=certificate.not_after if certificate else 0.0,
                message=message,
            )

    async def show(_call: Call) -> PairList:
        return await _list(worker, pairs, renewing)

    return [
        Route("GET", "/pair", show, "Whom this node trusts, and who answers", response=PairList),
        Route("POST", "/pair/invite", invite, "A new token", request=InviteRequest, response=InviteAnswer),
        Route("POST", "/pair/join", join, "Join with a token", request=JoinRequest, response=JoinAnswer),
        Route("POST", "/pair/revoke", revoke, "Trust a node no more", request=RevokeRequest, response=RevokeAnswer),
        Route("POST", "/pair/renew", renew, "A new key and certificate", response=RenewStep, streams=True),
    ]


async def _list(worker: ControlWorker, pairs: Pairs, renewing: Renewing) -> PairList:
    trust = pairs.store.read()
    now = time.time()
    own = pairs.own()
    configured = {peer.name: peer for peer in worker.settings.peers}
    names = list(dict.fromkeys([*configured, *trust.names]))
    answers = await asyncio.gather(*(_ask(worker, name) for name in names))
    peers = []
    for name, answer in zip(names, answers, strict=True):
        peer = configured.get(name)
        peers.append(
            PairedNode(
                name=name,
                certificates=[_shown(one) for one in trust.of(name)],
                configured=peer is not None,
                place=str(peer.control) if peer is not None and peer.control is not None else "",
                answers=isinstance(answer, NodeAnswer),
                version=answer.version if isinstance(answer, NodeAnswer) else "",
                problem=answer if isinstance(answer, Problem) else None,
            )
        )
    journal = renewing.journal
    return PairList(
        node=worker.name,
        generated=now,
        own=_shown(own) if own is not None else None,
        peers=peers,
        invitations=[
            OpenInvitation(expires=one.expires, wrong=one.wrong, left=WRONG_ALLOWED - one.wrong)
            for one in pairs.invitations.open_ones(now)
        ],
        attempts=Attempted(
            made=pairs.attempts.made, refused=pairs.attempts.refused, held_back=pairs.attempts.held_back
        ),
        renewal=RenewalUnderWay(
            fingerprint=journal.new, began=journal.began, switched=journal.switched, waiting_for=renewing.waiting_for()
        )
        if journal is not None
        else None,
        warnings=pairs.warnings(now),
    )


async def _ask(worker: ControlWorker, name: str) -> NodeAnswer | Problem:
    if name not in worker.peers:
        where = f'the settings have no [[peer]] with name = "{name}" and a control address'
        return Problem(code="not-configured", message=where, hint="add it, and reload")
    try:
        return await worker.peers[name].ask("GET", "/node", response=NodeAnswer, timeout=LIST_TIMEOUT)
    except ApiError as error:
        return Problem(code=error.code, message=error.message, hint=error.hint)


def _shown(certificate: Certificate) -> CertificateShown:
    return CertificateShown(
        fingerprint=certificate.fingerprint, not_before=certificate.not_before, expires=certificate.not_after
    )
