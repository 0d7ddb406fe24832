"""The configuration of one node: what may be asked of it, one transaction at a time, and recovery after a crash.

Blocking throughout, and independent of any network: the control worker calls it in a thread, tests call two of them
with a directory tree each.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from hacore import __version__
from hacore.configsync import own_settings
from hacore.configsync.difference import changes
from hacore.configsync.guards import Objection, receiver_objections, standing
from hacore.configsync.manifest import BadManifest, Entry, Manifest, check_links, check_manifest, within
from hacore.configsync.plan import Step
from hacore.configsync.report import Outcome
from hacore.configsync.stream import StreamReader
from hacore.errors import HacoreError, LocalProtocolError
from hacore.node.config_lock import Busy, lock
from hacore.node.config_parts import Report, open_parts
from hacore.node.config_recovery import recover
from hacore.node.config_revisions import NoRevision, Revision
from hacore.node.config_sections import KINDS, Sections, SectionStatus
from hacore.node.config_sentences import sentence
from hacore.node.config_space import DiskFull, demand_room, is_full
from hacore.node.config_surroundings import Surroundings
from hacore.node.config_transaction import Order, Transaction
from hacore.node.settings import Settings

IDLE_LIMIT = 30.0  # seconds after which an opened push whose sender says nothing makes way for another
LARGEST_SHOWN_BYTES = 1 << 20  # of one file in a difference


class Guarded(HacoreError):
    """A push that the guards refuse."""

    exit_code = 75

    def __init__(self, objections: Sequence[Objection]) -> None:
        lines = [f"{each.message} ({each.override} pushes all the same)" for each in objections]
        super().__init__("\n".join(lines))
        self.objections = tuple(objections)


Restart = Literal["changed", "all", "none"]


class PushRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a peer wants to push: its manifests, in the order in which they are to be applied.

    `overrides` are codes of objections; `restart`: services of the changed sections, of all that are named, or none.
    """

    sender: str
    version: str
    sections: list[Manifest]
    overrides: list[str] = []
    restart: Restart = "changed"
    unchanged: list[str] = []  # sections that were compared and are alike: their services are restarted with "all"
    dry_run: bool = False
    raised: dict[str, int] = {}  # by how much the advskew of these VIPs is above what it was before any push


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """A transaction that waits for contents: those that this node lacks, with their sizes."""

    transaction: str
    lacking: dict[str, int]


class OpenPush(NamedTuple):
    """A push between its opening and its commit."""

    request: PushRequest
    order: Order
    settings: Settings
    reader: StreamReader


class ConfigNode:
    """Owns `state_dir/config`. Whoever has the claim changes things, from one thread at a time; reading goes on beside.

    `step_written` is called when a step of a transaction is on the disk."""

    def __init__(
        self,
        state_dir: Path,
        surroundings: Surroundings,
        *,
        root: str = "/",
        step_written: Callable[[Step], None] = lambda _step: None,
    ) -> None:
        directory = state_dir / "config"
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = lock(directory)
        try:
            self.parts = open_parts(directory, surroundings, root, step_written)
        except BaseException:
            os.close(self._lock)
            raise
        self._mutex = threading.RLock()
        self._claimed = ""
        self._touched = 0.0
        self._opened: OpenPush | None = None
        self._unrecovered: list[str] = []

    def close(self) -> None:
        """Let another process have the directory."""
        if self._lock >= 0:
            self.parts.store.close()
            os.close(self._lock)
            self._lock = -1

    # One at a time

    def claim(self, what: str) -> None:
        """From now on `what` is under way; raises Busy, at once. From any thread."""
        with self._mutex:
            self.discard_idle()
            self._demand_free()
            if self.unfinished:
                why = f": {'; '.join(self._unrecovered)}" if self._unrecovered else ""
                raise Busy(f"{self.name} has to put back what an interrupted push replaced{why}")
            self._claimed = what

    def _demand_free(self) -> None:
        if self._claimed:
            raise Busy(f"{self.name} is busy: {self._claimed}")

    def discard_idle(self) -> None:
        """An opened push whose sender has said nothing for long makes way."""
        with self._mutex:
            if self._opened is not None and time.monotonic() - self._touched > IDLE_LIMIT:
                self.discard(self._opened.order.transaction)

    def release(self) -> None:
        """It is over."""
        self._claimed = ""

    @property
    def damage(self) -> list[str]:
        """What of the history and its contents could not be read."""
        return [*self.parts.store.damage, *self.parts.revisions.damage]

    @property
    def name(self) -> str:
        """This node's name."""
        return self.parts.surroundings.settings().node.name

    @property
    def busy(self) -> str:
        """What is under way, or ""."""
        return self._claimed

    # What is here

    def sections(self) -> Sections:
        """The sections as the settings' files say now; raises SettingsError."""
        parts = self.parts
        return Sections(parts.surroundings.settings(), parts.tree, parts.store, parts.revisions)

    def overview(self, names: Sequence[str] = ()) -> list[SectionStatus]:
        """How each section is: those named, else all of the settings. A section that cannot be read has a `problem`."""
        sections = self.sections()
        found = []
        for name in names or [section.id for section in sections.settings.sections]:
            try:
                found.append(sections.status(name))
            except (HacoreError, OSError) as error:
                built_in = name in own_settings.BUILT_IN
                found.append(SectionStatus(id=name, kind=KINDS[built_in], problem=str(error)))
        return found

    def manifest(self, name: str) -> Manifest:
        """What a peer is to compare."""
        return self.sections().comparable(name)

    def content(self, name: str, path: str) -> bytes | None:
        """A file of a section as it is compared: settings without secrets, templates as they were pushed.

        None where it is larger than what a difference shows. Raises BadManifest where the section has no such file.
        """
        sections = self.sections()
        return self.content_of(sections, sections.comparable(name), path)

    def content_of(self, sections: Sections, manifest: Manifest, path: str) -> bytes | None:
        """The same out of a manifest that `sections` read."""
        entry = manifest.by_path.get(path)
        if entry is None or not entry.has_content:
            raise BadManifest("no-file", f"the section {manifest.section} has no file {path}")
        if entry.size > LARGEST_SHOWN_BYTES:
            return None
        if entry.kind == "settings":
            content = sections.contents.get(entry.digest) or self.parts.store.read(entry.digest)
            return own_settings.encode(own_settings.without_secrets(own_settings.decode(content)))
        if self.parts.store.has(entry.digest):
            return self.parts.store.read(entry.digest)
        return self._read(entry, sections.roots(manifest.section))

    def _read(self, entry: Entry, roots: Sequence[str]) -> bytes:
        handle = self.parts.tree.open_file(entry.path, roots)
        with open(handle, "rb") as stream:
            return stream.read(LARGEST_SHOWN_BYTES + 1)

    def revision_content(self, manifest: Manifest, path: str) -> bytes | None:
        """The same out of a revision's manifest."""
        return self.content_of(self.sections(), manifest, path)

    # A push from a peer

    def open(self, request: PushRequest) -> Opened:
        """Look whether a push may be; the contents that are lacking come next. Raises Busy, Guarded, BadManifest.

        A sender pushes one thing at a time: what it opened before and did not commit, it has given up.
        """
        with self._mutex:
            if self._opened is not None and self._opened.order.by == request.sender:
                self.discard(self._opened.order.transaction)
        self.claim(f"{request.sender} pushes {', '.join(each.section for each in request.sections) or 'nothing new'}")
        try:
            return self._open(request)
        except BaseException:
            self.release()
            raise

    def _open(self, request: PushRequest) -> Opened:
        sections = self.sections()
        settings = sections.settings
        if len({each.section for each in request.sections}) < len(request.sections):
            raise BadManifest("request", "a section stands there twice")
        for each in request.sections:
            self._check(sections, each)
        for name in request.unchanged:
            sections.get(name)
        present = {each.section: sections.comparable(each.section) for each in request.sections}
        for each in request.sections:
            section = sections.get(each.section)
            if each.section not in own_settings.BUILT_IN and not section.outside_links:
                check_links(each, present[each.section], [str(path) for path in section.paths])
        self._guard(request, sections, present)
        here = {digest for each in present.values() for digest in each.objects()}
        lacking = {
            digest: size
            for each in request.sections
            for digest, size in each.objects().items()
            if not self.parts.store.has(digest)
            and (digest not in here or each.section in own_settings.BUILT_IN)
        }  # fmt: skip
        named = [each.section for each in request.sections]
        self._demand_room(sections, request, present, lacking)
        services = {
            "none": [],
            "changed": _services(sections, named),
            "all": _services(sections, [*named, *request.unchanged]),
        }[request.restart]
        transaction = secrets.token_hex(8)
        order = Order(
            transaction=transaction,
            action="push",
            by=request.sender,
            targets=request.sections,
            services=services,
            dry_run=request.dry_run,
            raised=request.raised,
        )
        self._opened = OpenPush(request, order, settings, StreamReader(lacking))
        self._touched = time.monotonic()
        return Opened(transaction=transaction, lacking=lacking)

    def _guard(self, request: PushRequest, sections: Sections, present: Mapping[str, Manifest]) -> None:
        objections = receiver_objections(
            sections.settings.node.name,
            dict(self.parts.surroundings.states()),
            __version__,
            request.sender,
            request.version,
            [name for name, manifest in present.items() if sections.changed(name, manifest)],
        )
        if left := standing(objections, request.overrides):
            raise Guarded(left)

    def _demand_room(
        self, sections: Sections, request: PushRequest, present: Mapping[str, Manifest], lacking: Mapping[str, int]
    ) -> None:
        """For what comes, for what it replaces, and for what is staged; raises DiskFull."""
        here, tree, store = self.parts.directory, self.parts.tree, self.parts.store
        wanted = [(here, sum(lacking.values()))]
        for each in request.sections:
            before, check = present[each.section], sections.get(each.section).check
            wanted.append((here, sum(entry.size for entry in before.entries if not store.has(entry.digest))))
            if any("{root}" in word for word in check):
                wanted.append((here, sum(entry.size for entry in each.entries)))
            new = [change.new for change in changes(before, each) if "digest" in change.fields or change.old is None]
            for root in sections.roots(each.section):
                size = sum(entry.size for entry in new if entry is not None and within(entry.path, [root]))
                wanted.append((Path(tree.real(root)), size))
        demand_room(wanted)

    def _check(self, sections: Sections, manifest: Manifest) -> None:
        name = manifest.section
        section = sections.get(name)
        if name in own_settings.BUILT_IN:
            entries = manifest.entries
            if len(entries) != 1 or entries[0].kind != "settings" or entries[0].path != name:
                raise BadManifest("manifest", f"the section {name} has one entry, the settings themselves")
            if not 0 <= entries[0].size <= LARGEST_SHOWN_BYTES:
                raise BadManifest("too-large", f"the section {name} is said to have {entries[0].size} bytes")
            return
        settings = sections.settings
        forbidden = {
            settings.path: "is the settings file of this node",
            f"{settings.path}.d": "belongs to the settings of this node",
            str(settings.node.state_dir): "belongs to this node's own state",
        }
        check_manifest(manifest, [str(path) for path in section.paths], forbidden)
        templates = {str(path) for path in section.templates}
        for entry in manifest.entries:
            if entry.template != (entry.path in templates and entry.kind == "file"):
                what = "a template for the sender alone" if entry.template else "a template for this node alone"
                raise BadManifest("template", f'{entry.path} is {what}: push the section "sections" first')

    def opened(self, transaction: str) -> OpenPush:
        """The push that is open; raises LocalProtocolError where it is another or none."""
        if self._opened is None or self._opened.order.transaction != transaction:
            raise LocalProtocolError(f"there is no open push {transaction}")
        return self._opened

    def take(self, transaction: str, data: bytes | bytearray | memoryview) -> None:
        """A piece of the stream of contents; raises WireError, StoreError, DiskFull."""
        with self._mutex:
            reader = self.opened(transaction).reader
            self._touched = time.monotonic()
            try:
                self.parts.store.take(data, reader.feed(data))
            except OSError as error:
                if is_full(error):
                    raise DiskFull(f"the disk of {self.parts.directory} is full") from None
                raise

    def commit(self, transaction: str, report: Report) -> Outcome:
        """Run the push to its end. Raises WireError where contents are missing, and Guarded: since it was opened this
        node may have become MASTER, or somebody may have changed a section.
        """
        with self._mutex:
            push = self.opened(transaction)
            push.reader.end()
            self._opened = None
        try:
            try:
                sections = self.sections()
                present = {each.section: sections.comparable(each.section) for each in push.request.sections}
                self._guard(push.request, sections, present)
            except BaseException:
                self.parts.store.drop_new()
                raise
            return self._run(push.order, push.settings, report)
        finally:
            self.release()

    def discard(self, transaction: str) -> None:
        """The sender gave up before the commit."""
        with self._mutex:
            if self._opened is not None and self._opened.order.transaction == transaction:
                self._opened = None
                self.parts.store.drop_new()
                self.release()

    def _run(self, order: Order, settings: Settings, report: Report) -> Outcome:
        outcome = Transaction(self.parts, settings, order, report).run()
        self.parts.surroundings.record(sentence(order, outcome))
        return outcome

    # History

    def roll_back(self, number: int, report: Report, *, by: str, restart: str = "changed") -> Outcome:
        """Bring back every section of a revision. Raises Busy, NoRevision."""
        revision = self.parts.revisions.get(number)
        self.claim(f"{by} rolls back to revision {number}")
        try:
            sections = self.sections()
            settings = sections.settings
            targets = []
            unknown = []
            for name, applied in revision.sections.items():
                try:
                    sections.get(name)
                except BadManifest:
                    unknown.append(name)
                    continue
                target = self.parts.revisions.manifest(applied.live)
                if sections.live(name).digest != target.digest:
                    targets.append(target)
            notes = [f"{name} is left as it is: the settings have no such section" for name in unknown]
            if not targets:
                return Outcome(result="unchanged", node=settings.node.name, revision=number, notes=notes)
            changed = [target.section for target in targets]
            named = {"none": [], "changed": changed}.get(restart, list(revision.sections))
            order = Order(
                transaction=secrets.token_hex(8),
                action="roll-back",
                by=by,
                targets=targets,
                services=_services(sections, named),
                exact=True,
                pushed={name: revision.sections[name].pushed for name in changed},
                comment=f"to revision {number}",
            )
            outcome = self._run(order, settings, report)
            return msgspec.structs.replace(outcome, notes=[*outcome.notes, *notes])
        finally:
            self.release()

    def previous(self) -> Revision:
        """The revision before the last; raises NoRevision."""
        known = self.parts.revisions.all()
        if len(known) < 2:
            raise NoRevision("there is no revision to go back to")
        return known[-2]

    # After a crash

    @property
    def unfinished(self) -> bool:
        """Whether something waits for `recover`: nothing can be claimed before."""
        return not self._claimed and self.parts.journal.record is not None

    def recover(self, report: Report = lambda _progress: None) -> list[str]:
        """Finish what a worker before this one began; returns what could not be done. Says so in the history.

        Nothing else can be claimed meanwhile; raises Busy where something is. To be called again where it failed.
        """
        with self._mutex:
            self._demand_free()
            if self.parts.journal.record is None:
                return []
            self._claimed = "puts back what an interrupted push replaced"
        try:
            text, problems = recover(self.parts, report)
            if problems != self._unrecovered or not problems:
                self.parts.surroundings.record(text)
            self._unrecovered = problems
            return problems
        finally:
            self.release()


def _services(sections: Sections, names: Sequence[str]) -> list[str]:
    """The services of these sections, each once, in the settings' order; those that the settings lack come last."""
    wanted = [service for name in names for service in sections.get(name).services]
    order = [service.id for service in sections.settings.services]
    known = [name for name in order if name in wanted]
    return known + [name for name in dict.fromkeys(wanted) if name not in order]
