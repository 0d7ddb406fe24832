"""One transaction on the node that takes it: stage, check, swap, apply, restart, verify; or undo.

Every method blocks. A failure before the swap leaves the node untouched; one after it puts the previous state back,
applies that, and says what failed. Whatever happens to the process, `recover` of the next one finishes the job.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec

from hacore import __version__
from hacore.configsync import own_settings
from hacore.configsync.difference import Change, changes
from hacore.configsync.manifest import BadManifest, Manifest, check_links
from hacore.configsync.plan import Step
from hacore.configsync.report import Failure, Outcome, Progress, StepFailed
from hacore.errors import HacoreError
from hacore.linux.process import boot_id
from hacore.node.config_commands import Ran
from hacore.node.config_digests import ChangedMeanwhile
from hacore.node.config_install import Installer, check_owners
from hacore.node.config_journal import Record, SectionRecord
from hacore.node.config_own import read_parts, synced_file, tables, write_synced
from hacore.node.config_parts import Parts, Report
from hacore.node.config_revisions import Applied, Brought, Revision
from hacore.node.config_sections import Sections, here
from hacore.node.config_space import DiskFull, is_full
from hacore.node.config_staging import Staging
from hacore.node.config_surroundings import Restarted
from hacore.node.config_undo import undo
from hacore.node.settings import Settings, examine


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done. `targets` are manifests as pushed; `exact`: they are to stand here just so (a roll-back).

    `raised`: as in a push's request. `services` are restarted after the sections are applied.
    """

    transaction: str
    action: str
    by: str
    targets: list[Manifest]
    services: list[str]
    dry_run: bool = False
    raised: dict[str, int] = {}
    exact: bool = False
    pushed: dict[str, str] = {}
    comment: str = ""


class Transaction:
    """Runs one order to its end."""

    def __init__(self, parts: Parts, settings: Settings, order: Order, report: Report) -> None:
        self._parts, self._order, self._report = parts, order, report
        self.settings = settings
        self.sections = Sections(settings, parts.tree, parts.store, parts.revisions)
        self._staging = Staging(parts.directory / "staged", parts.store)
        self._live: dict[str, Manifest] = {}
        self._before: dict[str, Manifest] = {}
        self._services: dict[str, str] = {}
        self._notes: list[str] = []
        self._found: int | None = None

    # The whole

    def run(self) -> Outcome:
        """Everything, up to the outcome; raises only what is a fault in hacore."""
        journal, order = self._parts.journal, self._order
        try:
            journal.open(
                Record(
                    transaction=order.transaction,
                    step="opened",
                    action=order.action,
                    by=order.by,
                    since=time.time(),
                    boot=boot_id(),
                )
            )
            self._stage()
            journal.advance("staged")
            self._check()
            journal.advance("checked")
        except Exception as error:
            self.forget()
            if isinstance(error, HacoreError | OSError):
                return self._outcome("refused", _failure(error, "stage"))
            raise
        if not order.targets:
            return self._restart_alone()
        if order.dry_run:
            self.forget()
            return self._outcome("checked")
        try:
            self._keep_found()
            self._look_again()
            journal.advance("swapping")
        except (HacoreError, OSError) as error:
            self.forget()
            self._sweep()
            return self._outcome("refused", _failure(error, "save"))
        try:
            self._swap()
            self._step("applying")
            self._apply()
            self._step("restarting")
            self._restart()
            self._step("verifying")
            self._verify()
            revision = self._finish()
        except (HacoreError, OSError) as error:
            failure = _failure(error, journal.plan.step)
            return self._undo(failure)
        self._tidy()
        return self._outcome("applied", revision=revision.number)

    def _restart_alone(self) -> Outcome:
        """Everything is alike; only services are to be restarted."""
        failure = None
        try:
            if not self._order.dry_run:
                self._restart()
        except HacoreError as error:
            failure = _failure(error, "restart")
        self.forget()
        return self._outcome("unchanged", failure)

    def _step(self, step: Step) -> None:
        self._parts.journal.advance(step)

    def forget(self) -> None:
        """Nothing was touched: let go of what was prepared. Nothing is written: the disk may be full."""
        self._staging.remove()
        self._parts.store.drop_new()
        self._parts.journal.close()

    def _sweep(self) -> None:
        with suppress(HacoreError, OSError):  # it goes with the next that is swept
            self._parts.revisions.sweep()

    def _outcome(self, result: str, failure: Failure | None = None, **more: object) -> Outcome:
        outcome = {
            "result": result,
            "node": self.settings.node.name,
            "transaction": self._order.transaction,
            "failure": failure,
            "services": self._services,
            "notes": self._notes,
            **more,
        }
        if result == "applied":
            outcome["sections"] = {name: self._pushed_digest(name) for name in self._live}
        return msgspec.convert(outcome, Outcome)

    # Stage

    def _stage(self) -> None:
        self._tell("stage", "compares with what is here")
        store = self._parts.store
        for target in self._order.targets:
            name = target.section
            self._before[name] = self.sections.live(name)
            for digest, content in self.sections.contents.items():
                if not store.has(digest):
                    store.put(content)
            self._live[name] = target if self._order.exact else self._here(target)
            if name not in own_settings.BUILT_IN:
                check_owners(self._changes(name))
        missing = [
            (name, entry.path)
            for name, live in self._live.items()
            for entry in live.entries
            if entry.has_content and not store.has(entry.digest)
        ]
        if missing:
            self._take_from_tree(missing)

    def _here(self, target: Manifest) -> Manifest:
        name = target.section
        if name in own_settings.BUILT_IN:
            wanted = _tables(name, self._parts.store.read(target.entries[0].digest))
            made = own_settings.encode(own_settings.received(name, wanted, tables(self.settings), self._order.raised))
            digest = self._parts.store.put(made)
            return Manifest(name, (msgspec.structs.replace(target.entries[0], size=len(made), digest=digest),))
        section = self.sections.get(name)
        if not section.outside_links:
            check_links(target, self._before[name], [str(path) for path in section.paths])
        return here(target, self._parts.store, self.settings.node.variables)

    def _take_from_tree(self, missing: Sequence[tuple[str, str]]) -> None:
        """Contents that stand here already, perhaps under another path, were not sent."""
        wanted = {
            entry.digest for name, _ in missing for entry in self._live[name].entries if entry.has_content
        }  # fmt: skip
        for before in self._before.values():
            self._save(before, wanted)
        for name, path in missing:
            entry = self._live[name].by_path[path]
            if not self._parts.store.has(entry.digest):
                message = f"the content of {path} was not sent and is not here"
                raise StepFailed(Failure(step="stage", code="content-missing", message=message))

    def _save(self, manifest: Manifest, wanted: set[str] | None = None) -> None:
        """Put what stands here into the store."""
        store, roots = self._parts.store, self.sections.roots(manifest.section)
        count = 0
        for entry in manifest.entries:
            if entry.kind != "file" or store.has(entry.digest) or (wanted is not None and entry.digest not in wanted):
                continue
            handle = self._parts.tree.open_file(entry.path, roots)
            try:
                store.copy_in(handle, entry.digest)
            except ChangedMeanwhile:
                raise self._changed(manifest.section, entry.path) from None
            finally:
                os.close(handle)
            count += 1
            if count % 500 == 0:
                self._tell("stage", "keeps what is here", count, len(manifest.entries))

    def _changes(self, name: str) -> list[Change]:
        return changes(self._before[name], self._live[name])

    # Check

    def _check(self) -> None:
        own = [name for name in self._live if name in own_settings.BUILT_IN]
        commands = {name: section.check for name in self._live if (section := self.sections.get(name)).check}
        if own or any("{root}" in word for command in commands.values() for word in command):
            text = self._synced_text()
            files = [(str(synced_file(self.settings.path)), text.encode())] if own else []
            self._staging.build([each for name, each in self._live.items() if name not in own], files)
        if own:
            self._tell("check", f"settings: {', '.join(own)}")
            self._check_settings()
        for name, command in commands.items():
            words = [word.replace("{root}", str(self._staging.root)) for word in command]
            self._tell("check", f"{name}: {' '.join(words)}")
            self._demand(self._parts.commands.run(words, self.sections.get(name).timeout), "check", name)

    def _check_settings(self) -> None:
        found = examine(self.settings.path, self._parts.surroundings.links(), self._staging.root)
        if found.problems:
            lines = "\n".join(str(problem) for problem in found.problems)
            raise StepFailed(
                Failure(step="check", code="check-failed", message="the settings would not be right here", output=lines)
            )

    def _demand(self, ran: Ran, step: str, name: str) -> None:
        if ran.problem:
            raise StepFailed(
                Failure(
                    step=step,
                    code=f"{step}-failed",
                    message=f"the {step} command of the section {name} {ran.problem}",
                    command=list(ran.command),
                    output=ran.output,
                )
            )

    def _synced_text(self) -> str:
        parts = read_parts(synced_file(self.settings.path))
        for name, live in self._live.items():
            if name not in own_settings.BUILT_IN:
                continue
            if live.entries:
                parts[name] = own_settings.decode(self._parts.store.read(live.entries[0].digest))
            else:
                parts.pop(name, None)
        return own_settings.synced_text(self._order.by, parts)

    # Swap

    def _keep_found(self) -> None:
        """What stands here is in the store and in a revision, before the first of it is replaced."""
        self._tell("stage", "keeps what is here")
        parts = self._parts
        last = parts.revisions.last()
        for before in self._before.values():
            self._save(before)
        unknown = [
            name
            for name, before in self._before.items()
            if last is None or name not in last.sections or last.sections[name].live != before.digest
        ]
        comparable = {name: self.sections.comparable(name, self._before[name]) for name in self._before}
        for content in self.sections.contents.values():
            parts.store.put(content)
        before_digests = {name: parts.store.put(before.encode()) for name, before in self._before.items()}
        found = {name: parts.store.put(comparable[name].encode()) for name in unknown}
        live = {name: parts.store.put(each.encode()) for name, each in self._live.items()}
        pushed = {target.section: parts.store.put(target.encode()) for target in self._order.targets}
        own = any(name in own_settings.BUILT_IN for name in self._live)
        file = synced_file(self.settings.path)
        settings_before = parts.store.put(file.read_bytes()) if own and file.exists() else ""
        parts.store.keep()
        record = parts.journal.record
        assert record is not None
        if unknown:
            self._found = parts.revisions.next_number()
            sections = dict(last.sections) if last else {}
            for name in unknown:
                brought = sections[name].brought if name in sections else None
                sections[name] = Applied(found[name], before_digests[name], brought)
            self._add_revision("found", sections, unknown, self._found)
        record.sections = {
            name: SectionRecord(
                roots=self.sections.roots(name), before=before_digests[name], live=live[name], pushed=pushed[name]
            )
            for name in self._live
        }
        record.settings_file = str(file)
        record.settings_before = settings_before
        record.touches_settings = own
        record.services = self._order.services
        record.ran = self._running()

    def _running(self) -> dict[str, bool]:
        """Which services run, asked before the swap: an apply command may start or stop one, a crash may come soon."""
        concerned = {name for each in self._live for name in self.sections.get(each).services}
        concerned.update(self._order.services)
        names = [service.id for service in self.settings.services if service.id in concerned]
        if not names:
            return {}
        return {each.name: each.runs for each in self._parts.surroundings.look(names) if each.runs is not None}

    def _look_again(self) -> None:
        """Checks take their time: what somebody changed since it was read would be lost without a trace."""
        for name, before in self._before.items():
            found = changes(before, self.sections.live(name))
            if found:
                raise self._changed(name, _listed(found))

    def _changed(self, name: str, what: str) -> StepFailed:
        message = f"the section {name} changed on {self.settings.node.name} during the push: push again"
        return StepFailed(Failure(step="save", code="changed-meanwhile", message=message, output=what))

    def _add_revision(self, kind: str, sections: dict[str, Applied], changed: list[str], number: int) -> Revision:
        last = self._parts.revisions.last()
        roots = dict(last.roots) if last else {}
        revision = msgspec.convert(
            {
                "number": number,
                "at": time.time(),
                "kind": kind,
                "by": self._order.by if kind != "found" else self.settings.node.name,
                "transaction": self._order.transaction,
                "sections": sections,
                "changed": changed,
                "roots": roots | {name: self.sections.roots(name) for name in changed},
                "version": __version__,
                "comment": self._order.comment,
            },
            Revision,
        )
        self._parts.revisions.add(revision)
        return revision

    def _swap(self) -> None:
        for name in self._live:
            if name in own_settings.BUILT_IN:
                continue
            found = self._changes(name)
            self._tell("swap", name, 0, len(found))
            Installer(
                self._parts.tree,
                self._parts.store,
                self.sections.roots(name),
                lambda done, total, name=name: self._tell("swap", name, done, total),  # type: ignore[misc]
            ).install(found)
        if any(name in own_settings.BUILT_IN for name in self._live):
            self._tell("swap", "settings")
            write_synced(synced_file(self.settings.path), self._synced_text().encode())

    # Apply and what follows

    def _apply(self) -> None:
        for name in self._live:
            section = self.sections.get(name)
            if section.apply:
                self._tell("apply", f"{name}: {' '.join(section.apply)}")
                self._demand(self._parts.commands.run(section.apply, section.timeout), "apply", name)
        if any(name in own_settings.BUILT_IN for name in self._live):
            self._tell("apply", "settings: reload")
            self._parts.surroundings.take_settings()

    def _restart(self) -> None:
        known = {service.id for service in self.settings.services}
        wanted = [name for name in self._order.services if name in known]
        for name in self._order.services:
            if name not in known:
                self._notes.append(f"{name} was not restarted: the settings here have no [[service]] of that name")
        if not wanted:
            return
        outcomes: list[Restarted] = []
        for number, name in enumerate(wanted):
            self._tell("restart", name, number, len(wanted))
            outcomes += self._parts.surroundings.restart([name])
        self._services = {each.name: each.text for each in outcomes}
        failed = {each.name: each.text for each in outcomes if not each.ok}
        if failed:
            raise StepFailed(
                Failure(
                    step="restart",
                    code="restart-failed",
                    message=f"did not restart: {', '.join(failed)}",
                    output="\n".join(f"{name}: {why}" for name, why in failed.items()),
                )
            )

    def _verify(self) -> None:
        self._tell("verify", "reads everything back")
        for name, wanted in self._live.items():
            found = changes(wanted, self.sections.live(name))
            if found:
                raise StepFailed(
                    Failure(
                        step="verify",
                        code="verify-failed",
                        message=f"{len(found)} entries of the section {name} are not as they were pushed",
                        output=_listed(found),
                    )
                )

    def _pushed_digest(self, name: str) -> str:
        if name in self._order.pushed:
            return self._order.pushed[name]
        return next(target.digest for target in self._order.targets if target.section == name)

    def _finish(self) -> Revision:
        parts = self._parts
        last = parts.revisions.last()
        assert parts.journal.record is not None
        record = parts.journal.record
        sections = dict(last.sections) if last else {}
        number = parts.revisions.next_number()
        for name, each in record.sections.items():
            pushed = self._order.pushed.get(name, each.pushed)
            brought = Brought(pushed, each.roots, number, time.time(), self._order.by)
            sections[name] = Applied(pushed, each.live, brought)
        return self._add_revision(self._order.action, sections, list(record.sections), number)

    def _tidy(self) -> None:
        """The revision is written: nothing undoes the push any more, whatever goes wrong."""
        self._staging.remove()
        self._try(lambda: self._step("done"), "the journal could not be written")
        self._try(self._parts.revisions.forget_old, "what old revisions had could not be removed")
        self._try(self._parts.journal.close, "the journal could not be removed")

    def _try(self, work: Callable[[], object], otherwise: str) -> None:
        try:
            work()
        except (HacoreError, OSError) as error:
            self._notes.append(f"{otherwise}: {error}")

    def _undo(self, failure: Failure) -> Outcome:
        self._tell("undo", f"{failure.message}; puts the previous state back")
        self._staging.remove()
        self._parts.store.drop_new()
        problems = undo(self._parts, self._report, failure.message)
        broken = self._parts.journal.record is not None
        if not broken:
            self._sweep()
        return self._outcome("broken" if broken else "undone", failure, undo=problems)

    def _tell(self, step: str, text: str, done: int = 0, total: int = 0) -> None:
        self._report(Progress(step=step, text=text, done=done, total=total))


def _tables(name: str, content: bytes) -> own_settings.Tables:
    try:
        tables = own_settings.decode(content)
    except msgspec.DecodeError as error:
        raise BadManifest("tables", f"the section {name} holds no tables: {error}") from None
    own_settings.check_tables(name, tables)
    return tables


def _failure(error: Exception, step: str) -> Failure:
    if isinstance(error, StepFailed):
        return error.failure
    full = is_full(error)
    code = DiskFull.code if full else getattr(error, "code", "") or f"{step}-failed"
    if isinstance(error, OSError):
        what = "the disk is full" if full else "the system refused"
        why = error.strerror or str(error)
        return Failure(step=step, code=code, message=f"{what}: {f'{error.filename}: ' * bool(error.filename)}{why}")
    return Failure(step=step, code=code, message=str(error))


def _listed(found: Sequence[Change]) -> str:
    return "\n".join(f"{each.path}: {each.what} {' '.join(each.fields)}".rstrip() for each in found[:20])
