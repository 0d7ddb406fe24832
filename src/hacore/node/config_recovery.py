"""What a worker does first: finish what the one before it began."""

from __future__ import annotations

from contextlib import suppress

from hacore.configsync import own_settings
from hacore.configsync.plan import AFTER_CRASH, Step
from hacore.errors import HacoreError
from hacore.node.config_install import Installer
from hacore.node.config_journal import Record
from hacore.node.config_parts import Parts, Report
from hacore.node.config_revisions import Revision
from hacore.node.config_staging import Staging
from hacore.node.config_undo import undo


def recover(parts: Parts, report: Report) -> tuple[str, list[str]]:
    """Finish the journal's transaction; returns what became of it, for the history, and what could not be done.

    Where the journal stays it is to be called again. Raises OSError where the journal cannot be removed.
    """
    told = _recover(parts, report)
    if parts.journal.record is None:
        with suppress(HacoreError, OSError):  # it goes with the next that is swept
            parts.revisions.sweep()
    return told


def _recover(parts: Parts, report: Report) -> tuple[str, list[str]]:
    journal = parts.journal
    record = journal.record
    assert record is not None
    what, step = f"the {record.action} by {record.by}", interrupted_step(record)
    ended = parts.commands.end_leftover()
    Staging(parts.directory / "staged", parts.store).remove()
    done = applied(parts)
    if done is not None or AFTER_CRASH[record.step] == "nothing":
        _clean(parts, record)
        journal.close()
        state = f"revision {done.number} is applied" if done is not None else "nothing was left to do"
        return f"{what} was interrupted at its end; {state}", []
    if AFTER_CRASH[record.step] == "forget":
        journal.close()
        return f"{what} was interrupted when it was {step}; nothing had changed", []
    early = "; its files were put back before the node started" if record.put_back is not None else ""
    problems = undo(parts, report)
    more = f"; {ended} of it was ended" if ended else ""
    text = f"{what} was interrupted while {step}{more}, and"
    if journal.record is not None:
        return f"{text} could not be undone: {'; '.join(problems)}", problems
    last = parts.revisions.last()
    text = f"{text} is undone: this node has {f'revision {last.number}' if last is not None else 'what it had'}{early}"
    if problems:
        text = f"{text}; but then: {'; '.join(problems)}"
    return text, problems


def interrupted_step(record: Record) -> Step:
    """The step that did not come to its end, also where a recovery has begun to undo it; "undoing" where it failed."""
    return record.step if record.reason else record.undone_from or record.step


def applied(parts: Parts) -> Revision | None:
    """The revision that the journal's transaction has become, if it came that far."""
    record = parts.journal.record
    assert record is not None
    return parts.revisions.of_transaction(record.transaction, ["push", "roll-back"])


def _clean(parts: Parts, record: Record) -> None:
    for name, each in record.sections.items():
        if name not in own_settings.BUILT_IN:
            Installer(parts.tree, parts.store, each.roots).clean()
