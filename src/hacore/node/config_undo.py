"""The way back: what the journal's transaction replaced is put back, after a failure or at the next start."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hacore.configsync import own_settings
from hacore.configsync.difference import changes
from hacore.configsync.report import Progress, StepFailed
from hacore.errors import HacoreError
from hacore.node.config_install import Installer
from hacore.node.config_journal import Record
from hacore.node.config_own import write_synced
from hacore.node.config_parts import Parts, Report
from hacore.node.settings import Section


def undo(parts: Parts, report: Report) -> list[str]:
    """Put back what the journal's transaction replaced; returns what could not be done.

    Files first, then the node's settings, then the apply commands, last the services: what stands then is what stood
    before. Where the files cannot be put back the journal stays, and the next start tries again.
    """
    record = parts.journal.record
    assert record is not None
    problems: list[str] = []
    report(Progress(step="undo", text="files"))
    for name, each in record.sections.items():
        if name in own_settings.BUILT_IN:
            continue
        try:
            installer = Installer(parts.tree, parts.store, each.roots)
            installer.clean()
            before = parts.revisions.manifest(each.before)
            installer.install(changes(parts.tree.scan(name, each.roots), before))
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
    _apply_again(parts, record, problems, report)
    parts.journal.advance("undone")
    parts.journal.close()
    return problems


def _apply_again(parts: Parts, record: Record, problems: list[str], report: Report) -> None:
    """The previous state, applied: as far as the new one had been."""
    if record.undone_from in (None, "swapping"):
        return
    try:
        settings = parts.surroundings.settings()
    except HacoreError as error:
        problems.append(f"settings: {error}")
        return
    known: Mapping[str, Section] = {section.id: section for section in settings.sections}
    for name in record.sections:
        section = known.get(name)
        if section is not None and section.apply:
            report(Progress(step="undo", text=f"{name}: {' '.join(section.apply)}"))
            ran = parts.commands.run(section.apply, section.timeout)
            if ran.problem:
                problems.append(f"{' '.join(ran.command)} {ran.problem}: {ran.output}")
    if record.touches_settings:
        try:
            report(Progress(step="undo", text="settings: reload"))
            parts.surroundings.take_settings()
        except StepFailed as error:
            problems.append(f"{error.failure.message}: {error.failure.output}")
    if record.undone_from == "applying":
        return
    services = {service.id for service in settings.services}
    wanted = [name for name in record.services if name in services]
    if wanted:
        report(Progress(step="undo", text=f"restarts {', '.join(wanted)}"))
        problems.extend(f"{each.name}: {each.text}" for each in parts.surroundings.restart(wanted) if not each.ok)
