"""What is said about configuration on the wire, beside the structs of `configsync` and `node`."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from hacore.configsync.attributes import Attributes
from hacore.configsync.difference import FieldChange
from hacore.configsync.report import Outcome, Progress
from hacore.control.schemas import Problem
from hacore.node.config_sections import SectionStatus


class ConfigAnswer(Struct, kw_only=True):
    """How a node's sections are; `busy` says what is under way, or is ""."""

    name: str
    version: str
    busy: str
    sections: list[SectionStatus]


class SectionNames(Struct, kw_only=True):
    """A query: sections separated by commas, "" for all; `peer` only where the local command line asks."""

    sections: str = ""
    peer: str = ""

    @property
    def names(self) -> list[str]:
        """As a list."""
        return [name for name in self.sections.split(",") if name]


class OneSection(Struct, kw_only=True):
    """A query for one section."""

    section: str


class WantedFiles(Struct, kw_only=True):
    """Files of a section whose contents are to be shown."""

    section: str
    paths: list[str]


class Files(Struct, kw_only=True):
    """Contents by path, base64; None where one is too large to be shown, or all before it are so together. Those in
    `binary` are no text, and are not sent.
    """

    contents: dict[str, bytes | None]
    binary: list[str] = []


class Transaction(Struct, kw_only=True):
    """The id of a push."""

    transaction: str


class Line(Struct, kw_only=True, omit_defaults=True):
    """A line of a stream: progress, or at its end the outcome.

    Of a push to several peers each line says to which in `peer`, and each peer has an end of its own: an outcome, or
    the `problem` for which the push to it did not come about.
    """

    progress: Progress | None = None
    outcome: Outcome | None = None
    peer: str = ""
    problem: Problem | None = None


class PushOrder(Struct, kw_only=True):
    """A push as the local command line orders it; `sections` none for all, `overrides` are codes of guards.

    `peer` "": to all of them, one after the other.
    """

    sections: list[str] = []
    peer: str = ""
    restart: Literal["changed", "all", "none"] = "changed"
    overrides: list[str] = []
    dry_run: bool = False
    if_master: bool = False


class RollBackOrder(Struct, kw_only=True):
    """A return to a revision; `overrides` are codes of guards."""

    overrides: list[str] = []
    restart: Literal["changed", "all", "none"] = "changed"


class EntryDifference(Struct, kw_only=True):
    """One path that differs. `fields` names what of it; `old` and `new` its rights and kind; `text` a unified diff."""

    path: str
    what: Literal["added", "removed", "changed"]
    fields: list[str] = []
    old: dict[str, Any] | None = None
    new: dict[str, Any] | None = None
    text: str = ""


class SectionDifference(Struct, kw_only=True):
    """What a push would change on the peer, or what differs between two revisions.

    `tables` is for the built-in sections, `entries` for the others; `changed_there`: the peer changed it by itself
    since the last push. `left_out` counts entries that are not listed.
    """

    id: str
    in_sync: bool = True
    kind: Literal["files", "settings"] = "files"
    changed_there: bool = False
    problem: str = ""
    entries: list[EntryDifference] = []
    tables: list[FieldChange] = []
    left_out: int = 0


class Differences(Struct, kw_only=True):
    """`old` and `new` say which two states were compared."""

    old: str
    new: str
    sections: list[SectionDifference]


class PeerDifference(Struct, kw_only=True):
    """What a push would change on one peer, or why it does not say."""

    name: str
    difference: Differences | None = None
    problem: Problem | None = None


class AllDifferences(Struct, kw_only=True):
    """What a push would change on each peer."""

    peers: list[PeerDifference]


class RevisionLine(Struct, kw_only=True):
    """One revision: `sections` are those that it changed, `all` every section that it holds. `at` in unix seconds."""

    number: int
    at: float
    kind: str
    by: str
    version: str
    sections: list[str]
    all: list[str]
    comment: str = ""


class Revisions(Struct, kw_only=True):
    """The oldest first."""

    name: str
    revisions: list[RevisionLine]


class EntryLine(Struct, kw_only=True):
    """One entry of a revision."""

    path: str
    kind: str
    mode: int
    owner: str
    group: str
    size: int
    digest: str
    target: str = ""
    attributes: Attributes = ()


class RevisionAnswer(Struct, kw_only=True):
    """A revision with everything in it; the digests of its sections' manifests."""

    revision: RevisionLine
    digests: dict[str, str]
    entries: dict[str, list[EntryLine]]


class OneRevision(Struct, kw_only=True):
    """The number of a revision."""

    number: int


class AtPeer(Struct, kw_only=True):
    """A query: the peer that is meant, "" for this node."""

    peer: str = ""


class Against(Struct, kw_only=True):
    """A query: the revision that is compared with, 0 for the one before; the peer that is meant."""

    to: int = 0
    peer: str = ""


class VipKey(Struct, kw_only=True, frozen=True):
    """The addresses and the password of a VHID, as a digest that two nodes can compare."""

    interface: str
    vhid: int
    digest: str


class Rekeyed(Struct, kw_only=True):
    """The VHIDs whose keys every node has; answered with those that this node has, too."""

    keys: list[VipKey]
