"""What the worker answers to `hacore pair`: moments in unix seconds, fingerprints are SHA-256 in hex."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from hacore.control.schemas import Problem


class InviteRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`valid_for` in seconds."""

    valid_for: float = 900.0


class InviteAnswer(Struct, frozen=True, kw_only=True):
    """`fingerprint` (SHA-256, hex) is in the token; `listen` is where this node takes the call."""

    node: str
    token: str
    fingerprint: str
    expires: float
    listen: str


class JoinRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`via` is HOST or HOST:PORT."""

    token: str
    via: str


class JoinAnswer(Struct, frozen=True, kw_only=True):
    """The node that is trusted now; `left` says what is still to be done, a sentence each."""

    node: str
    name: str
    fingerprint: str
    expires: float
    left: list[str]


class RevokeRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The node that is not to be trusted any more."""

    name: str


class RevokeAnswer(Struct, frozen=True, kw_only=True):
    """What was trusted, and how many of its connections were closed."""

    node: str
    name: str
    fingerprints: list[str]
    closed: int


class CertificateShown(Struct, frozen=True, kw_only=True):
    """One certificate: SHA-256 in hex, moments in unix seconds."""

    fingerprint: str
    not_before: float
    expires: float


class PairedNode(Struct, frozen=True, kw_only=True):
    """A node that is trusted, or is only in the settings (`certificates` is empty).

    `configured`: whether a [[peer]] names it, at `place`; `answers` whether it answered just now, `problem` why not.
    """

    name: str
    certificates: list[CertificateShown]
    configured: bool
    place: str = ""
    answers: bool = False
    version: str = ""
    problem: Problem | None = None


class OpenInvitation(Struct, frozen=True, kw_only=True):
    """A token that nobody has used yet; so many attempts with a wrong secret were made, and are left."""

    expires: float
    wrong: int
    left: int


class RenewalUnderWay(Struct, frozen=True, kw_only=True):
    """The new certificate's fingerprint, and the peers that are still to be told of it."""

    fingerprint: str
    began: float
    switched: bool
    waiting_for: list[str]


class Attempted(Struct, frozen=True, kw_only=True):
    """Attempts to join this node since its worker began."""

    made: int
    refused: int
    held_back: int


class PairList(Struct, frozen=True, kw_only=True):
    """The whole of `hacore pair list --json`; `own` is None where this node has no certificate yet."""

    node: str
    generated: float
    own: CertificateShown | None
    peers: list[PairedNode]
    invitations: list[OpenInvitation]
    attempts: Attempted
    renewal: RenewalUnderWay | None = None
    warnings: list[str] = []


class RenewStep(Struct, frozen=True, kw_only=True):
    """One line of a renewal: what was done, with which peer, or why it was not."""

    step: Literal["made", "told", "not told", "switched", "confirmed", "not confirmed", "waiting", "done"]
    peer: str = ""
    fingerprint: str = ""
    expires: float = 0.0
    message: str = ""
