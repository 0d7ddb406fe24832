"""The configuration of one node: what may be asked of it, one transaction at a time, and recovery after a crash.

Blocking throughout, and independent of any network: the control worker calls it in a thread, tests call two of them
with a directory tree each.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from hacore import __version__
from hacore.configsync import own_settings
from hacore.configsync.guards import Objection, receiver_objections, standing
from hacore.configsync.manifest import BadManifest, Entry, Manifest, check_links, check_manifest
from hacore.configsync.plan import AFTER_CRASH, Step
from hacore.configsync.report import Failure, Outcome
from hacore.configsync.stream import StreamReader
from hacore.errors import HacoreError, LocalProtocolError
from hacore.node.config_commands import Commands
from hacore.node.config_digests import Digests
from hacore.node.config_install import Installer
from hacore.node.config_journal import Journal, Record
from hacore.node.config_parts import Parts, Report
from hacore.node.config_revisions import NoRevision, Revision, Revisions
from hacore.node.config_sections import KINDS, Sections, SectionStatus
from hacore.node.config_store import Store
from hacore.node.config_surroundings import Surroundings
from hacore.node.config_transaction import Order, Transaction
from hacore.node.config_tree import Tree
from hacore.node.config_undo import undo
from hacore.node.settings import Settings

IDLE_LIMIT = 30.0  # seconds after which an opened push whose sender says nothing makes way for another
LARGEST_SHOWN_BYTES = 1 << 20  # of one file in a difference


class Busy(HacoreError):
    """Another push or roll-back is under way; the message says which."""

    exit_code = 75


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
        self._lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise Busy(f"another process uses {directory}") from None
        store = Store(directory)
        self.digests = Digests(directory / "digests")
        self.parts = Parts(
            directory=directory,
            tree=Tree(self.digests, root),
            store=store,
            revisions=Revisions(directory / "revisions", store),
            journal=Journal(directory / "journal.json", step_written),
            commands=Commands(directory / "command.json"),
            surroundings=surroundings,
        )
        self._mutex = threading.RLock()
        self._claimed = ""
        self._touched = 0.0
        self._opened: tuple[Order, Settings, StreamReader] | None = None

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
            if self._opened is not None and time.monotonic() - self._touched > IDLE_LIMIT:
                self.discard(self._opened[0].transaction)
            if self._claimed:
                raise Busy(f"{self.name} is busy: {self._claimed}")
            self._claimed = what
        try:
            self._recover_first()
        except BaseException:
            self._claimed = ""
            raise

    def _recover_first(self) -> None:
        if self.parts.journal.record is not None:
            problems = self.recover()
            if self.parts.journal.record is not None:
                raise Busy(f"{self.name} could not put back what a push replaced: {'; '.join(problems)}")

    def release(self) -> None:
        """It is over."""
        self._claimed = ""

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
            if self._opened is not None and self._opened[0].by == request.sender:
                self.discard(self._opened[0].transaction)
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
        objections = receiver_objections(
            settings.node.name,
            dict(self.parts.surroundings.states()),
            __version__,
            request.sender,
            request.version,
            [name for name, manifest in present.items() if sections.changed(name, manifest)],
        )
        if left := standing(objections, request.overrides):
            raise Guarded(left)
        here = {digest for each in present.values() for digest in each.objects()}
        lacking = {
            digest: size
            for each in request.sections
            for digest, size in each.objects().items()
            if not self.parts.store.has(digest)
            and (digest not in here or each.section in own_settings.BUILT_IN)
        }  # fmt: skip
        named = [each.section for each in request.sections]
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
        self._opened = (order, settings, StreamReader(lacking))
        self._touched = time.monotonic()
        return Opened(transaction=transaction, lacking=lacking)

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

    def opened(self, transaction: str) -> tuple[Order, Settings, StreamReader]:
        """The push that is open; raises LocalProtocolError where it is another or none."""
        if self._opened is None or self._opened[0].transaction != transaction:
            raise LocalProtocolError(f"there is no open push {transaction}")
        return self._opened

    def take(self, transaction: str, data: bytes | bytearray | memoryview) -> None:
        """A piece of the stream of contents; raises WireError, StoreError."""
        with self._mutex:
            reader = self.opened(transaction)[2]
            self._touched = time.monotonic()
            self.parts.store.take(data, reader.feed(data))

    def commit(self, transaction: str, report: Report) -> Outcome:
        """Run the push to its end. Raises WireError where contents are missing."""
        with self._mutex:
            order, settings, reader = self.opened(transaction)
            reader.end()
            self._opened = None
        try:
            return self._run(order, settings, report)
        finally:
            self.release()

    def discard(self, transaction: str) -> None:
        """The sender gave up before the commit."""
        with self._mutex:
            if self._opened is not None and self._opened[0].transaction == transaction:
                self._opened = None
                self.parts.store.drop_new()
                self.release()

    def _run(self, order: Order, settings: Settings, report: Report) -> Outcome:
        journal = self.parts.journal
        journal.open(
            Record(transaction=order.transaction, step="opened", action=order.action, by=order.by, since=time.time())
        )
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

    def recover(self, report: Report = lambda _progress: None) -> list[str]:
        """Finish what a worker before this one began; returns what could not be done. Says so in the history."""
        journal, parts = self.parts.journal, self.parts
        record = journal.record
        if record is None:
            return []
        ended = parts.commands.end_leftover()
        done = parts.revisions.of_transaction(record.transaction, ["push", "roll-back"])
        if done is not None or AFTER_CRASH[record.step] == "nothing":
            self._clean(record)
            journal.close()
            state = f"revision {done.number} is applied" if done is not None else "nothing was left to do"
            parts.surroundings.record(f"{_what(record)} was interrupted at its end; {state}")
            return []
        if AFTER_CRASH[record.step] == "forget":
            step = record.step
            journal.advance("undone")
            journal.close()
            parts.surroundings.record(f"{_what(record)} was interrupted when it was {step}; nothing had changed")
            return []
        step = record.step
        if record.step != "undoing":
            journal.advance("undoing")
        problems = undo(parts, report)
        what = f"; {ended} of it was ended" if ended else ""
        if problems:
            text = f"and could not be undone: {'; '.join(problems)}"
        else:
            last = parts.revisions.last()
            text = f"and is undone: this node has {_standing(last)}"
        parts.surroundings.record(f"{_what(record)} was interrupted while {step}{what}, {text}")
        return problems

    def _clean(self, record: Record) -> None:
        for name, each in record.sections.items():
            if name not in own_settings.BUILT_IN:
                Installer(self.parts.tree, self.parts.store, each.roots).clean()


def _services(sections: Sections, names: Sequence[str]) -> list[str]:
    """The services of these sections, each once, in the settings' order; those that the settings lack come last."""
    wanted = [service for name in names for service in sections.get(name).services]
    order = [service.id for service in sections.settings.services]
    known = [name for name in order if name in wanted]
    return known + [name for name in dict.fromkeys(wanted) if name not in order]


def _what(record: Record) -> str:
    return f"the {record.action} by {record.by}"


def _standing(last: Revision | None) -> str:
    return f"revision {last.number}" if last is not None else "what it had"


def sentence(order: Order, outcome: Outcome) -> str:
    """An outcome for the history."""
    names = ", ".join(target.section for target in order.targets) or "services"
    what = f"{order.action} of {names} by {order.by}"
    failure = outcome.failure
    why = failure_text(failure) if failure is not None else ""
    if outcome.result == "applied":
        return f"{what}: applied as revision {outcome.revision}"
    if outcome.result == "checked":
        return f"{what}: checked only, it would do"
    if outcome.result == "refused":
        return f"{what}: refused, nothing was changed: {why}"
    if outcome.result == "undone":
        again = f"; but then: {'; '.join(outcome.undo)}" if outcome.undo else ""
        return f"{what}: undone, the previous state is back: {why}{again}"
    return f"{what}: {why}; the previous state could not be put back: {'; '.join(outcome.undo)}"


def failure_text(failure: Failure) -> str:
    """A failure in one paragraph: what, which command, its output."""
    parts = [failure.message]
    if failure.command:
        parts.append(f"command: {' '.join(failure.command)}")
    if failure.output:
        parts.append(f"output: {failure.output}")
    return "; ".join(parts)
