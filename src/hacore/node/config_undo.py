"""The way back: what the journal's transaction replaced is put back, after a failure or at the next start."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Literal

from hacore.configsync.report import Progress, StepFailed
from hacore.errors import HacoreError
from hacore.linux.process import boot_id
from hacore.node.config_journal import Record
from hacore.node.config_parts import Parts, Report
from hacore.node.config_put_back import left_alone, put_back
from hacore.node.config_surroundings import Standing
from hacore.node.settings import Section, Settings


def undo(parts: Parts, report: Report, reason: str = "") -> list[str]:
    """Put back what the journal's transaction replaced; returns what could not be done.

    Files first, read back, then the node's settings, then the apply commands, last the services: what stands then is
    what stood before. Where the files cannot be put back the journal stays, and the next recovery tries again.
    """
    if problems := put_back(parts, report, reason):
        return problems
    record = parts.journal.record
    assert record is not None
    problems = left_alone(parts)
    _in_force_again(parts, record, problems, report)
    with suppress(OSError):  # no journal says as much
        parts.journal.advance("undone")
    parts.journal.close()
    return problems


def _in_force_again(parts: Parts, record: Record, problems: list[str], report: Report) -> None:
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
    known = {section.id: section for section in settings.sections}
    sections = [known[name] for name in record.sections if name in known]
    _apply(parts, record, sections, problems, report)
    if not started_anew and record.undone_from == "applying":
        return
    concerned = set(record.services)
    if started_anew:
        concerned.update(service for section in sections for service in section.services)
    _services(parts, record, _in_order(settings, concerned), problems, report)


def _apply(parts: Parts, record: Record, sections: Sequence[Section], problems: list[str], report: Report) -> None:
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


def _in_order(settings: Settings, names: set[str]) -> list[str]:
    return [service.id for service in settings.services if service.id in names]


# Services


def _services(parts: Parts, record: Record, names: Sequence[str], problems: list[str], report: Report) -> None:
    """They run as they ran before, with the files of before."""
    if not names:
        return
    wanted = {each.name: _wanted(record, each) for each in parts.surroundings.look(names)}
    for action, call in (("restart", parts.surroundings.restart), ("stop", parts.surroundings.stop)):
        chosen = [name for name in names if wanted.get(name) == action]
        if chosen:
            report(Progress(step="undo", text=f"{action}s {', '.join(chosen)}"))
            problems.extend(f"{each.name}: {each.text}" for each in call(chosen) if not each.ok)


def _wanted(record: Record, now: Standing) -> Literal["restart", "stop", ""]:
    """What is to be done with a service. In another boot than the push's, it is the boot that starts and leaves out."""
    if record.ran.get(now.name) is False:
        if record.boot == boot_id():
            return "" if now.runs is False else "stop"
        if not now.runs:
            return ""
    return "" if now.runs and _began_later(record, now) else "restart"


def _began_later(record: Record, now: Standing) -> bool:
    """Than the files were put back."""
    done = record.put_back
    assert done is not None
    return done.boot != boot_id() or (now.began is not None and now.began > done.at)
