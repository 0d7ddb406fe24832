"""The way back: what the journal's transaction replaced is put back, after a failure or at the next start."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from hacore.configsync import own_settings
from hacore.configsync.difference import Change, changes
from hacore.configsync.manifest import folders_above
from hacore.configsync.report import Progress, StepFailed
from hacore.errors import HacoreError
from hacore.linux.process import boot_id
from hacore.node.config_install import Installer
from hacore.node.config_journal import Record, SectionRecord
from hacore.node.config_own import write_synced
from hacore.node.config_parts import Parts, Report
from hacore.node.config_tree import TreeError
from hacore.node.settings import Section

MOST_NAMED = 5  # paths in a message


def undo(parts: Parts, report: Report, reason: str = "") -> list[str]:
    """Put back what the journal's transaction replaced; returns what could not be done.

    Files first, read back, then the node's settings, then the apply commands, last the services: what stands then is
    what stood before. Where the files cannot be put back the journal stays, and the next recovery tries again.
    """
    assert parts.journal.record is not None
    if parts.journal.record.step != "undoing":
        parts.journal.undoing(reason)
    record = parts.journal.record
    problems: list[str] = []
    left: list[str] = []
    report(Progress(step="undo", text="files"))
    for name, each in record.sections.items():
        if name in own_settings.BUILT_IN:
            continue
        try:
            left.extend(_put_back(parts, name, each))
        except (HacoreError, OSError) as error:
            problems.append(f"{name}: {error}")
    if record.touches_settings:
        try:
            content = parts.store.read(record.settings_before) if record.settings_before else b""
            write_synced(Path(record.settings_file), content)
        except (HacoreError, OSError) as error:
            problems.append(f"{record.settings_file}: {error}")
    if problems:
        return problems
    problems = [f"{path} is left as it is: somebody made it meanwhile" for path in left]
    _apply_again(parts, record, problems, report)
    with suppress(OSError):  # no journal says as much
        parts.journal.advance("undone")
    parts.journal.close()
    return problems


def _put_back(parts: Parts, name: str, each: SectionRecord) -> list[str]:
    """The files of one section; returns what stands there and was neither there before nor brought by the push.

    Raises HacoreError, OSError, and TreeError where what is read back is not what stood there.
    """
    installer = Installer(parts.tree, parts.store, each.roots)
    installer.clean()
    before = parts.revisions.manifest(each.before)
    known = before.by_path.keys() | parts.revisions.manifest(each.live).by_path.keys()
    differing = changes(parts.tree.scan(name, each.roots), before)
    others = [change.path for change in differing if change.path not in known]
    around = {folder for path in others for folder in folders_above(path)}

    def ours(change: Change) -> bool:
        return change.path in known and not (change.new is None and change.path in around)

    installer.install([change for change in differing if ours(change)])
    wrong = [change.path for change in changes(parts.tree.scan(name, each.roots), before) if ours(change)]
    if wrong:
        more = f" and {len(wrong) - MOST_NAMED} more" if len(wrong) > MOST_NAMED else ""
        raise TreeError(f"not as before when read back: {', '.join(wrong[:MOST_NAMED])}{more}")
    return others


def _apply_again(parts: Parts, record: Record, problems: list[str], report: Report) -> None:
    """The previous state, applied: as far as the new one had been.

    Where the machine started anew meanwhile, everything of it may have come up with files of both states.
    """
    started_anew = record.boot != boot_id()
    if not started_anew and record.undone_from in (None, "swapping"):
        return
    try:
        settings = parts.surroundings.settings()
    except HacoreError as error:
        problems.append(f"settings: {error}")
        return
    known: Mapping[str, Section] = {section.id: section for section in settings.sections}
    sections = [known[name] for name in record.sections if name in known]
    for section in sections:
        if section.apply:
            report(Progress(step="undo", text=f"{section.id}: {' '.join(section.apply)}"))
            ran = parts.commands.run(section.apply, section.timeout)
            if ran.problem:
                problems.append(f"{' '.join(ran.command)} {ran.problem}: {ran.output}")
    if record.touches_settings:
        try:
            report(Progress(step="undo", text="settings: reload"))
            parts.surroundings.take_settings()
        except StepFailed as error:
            problems.append(f"{error.failure.message}: {error.failure.output}")
    if not started_anew and record.undone_from == "applying":
        return
    concerned = set(record.services)
    if started_anew:
        concerned.update(service for section in sections for service in section.services)
    wanted = [service.id for service in settings.services if service.id in concerned]
    if wanted:
        report(Progress(step="undo", text=f"restarts {', '.join(wanted)}"))
        problems.extend(f"{each.name}: {each.text}" for each in parts.surroundings.restart(wanted) if not each.ok)
