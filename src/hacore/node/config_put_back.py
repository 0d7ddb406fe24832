"""The files that a transaction replaced, put back: what stands then is what stood before."""

from __future__ import annotations

import time
from pathlib import Path

from hacore.configsync import own_settings
from hacore.configsync.difference import Change, changes
from hacore.configsync.manifest import folders_above
from hacore.configsync.report import Progress
from hacore.errors import HacoreError
from hacore.linux.process import boot_id
from hacore.node.config_install import Installer
from hacore.node.config_journal import Record, SectionRecord
from hacore.node.config_own import write_synced
from hacore.node.config_parts import Parts, Report
from hacore.node.config_tree import TreeError

MOST_NAMED = 5  # paths in a message


def put_back(parts: Parts, report: Report, reason: str = "") -> list[str]:
    """Put back the files of the journal's transaction, and 50-synced.toml; returns what could not be done.

    Once they are on the disk and read back the journal says so, and they are not looked at again: what somebody
    changes from then on is theirs.
    """
    journal = parts.journal
    assert journal.record is not None
    if journal.record.step != "undoing":
        journal.undoing(reason)
    record = journal.record
    if record.put_back is not None:
        return []
    problems: list[str] = []
    left: list[str] = []
    report(Progress(step="undo", text="files"))
    for name, each in record.sections.items():
        if name in own_settings.BUILT_IN:
            continue
        try:
            left.extend(_section(parts, name, each))
        except (HacoreError, OSError) as error:
            problems.append(f"{name}: {error}")
    try:
        _settings(parts, record)
    except (HacoreError, OSError) as error:
        problems.append(f"{record.settings_file}: {error}")
    if not problems:
        journal.put_back(boot_id(), time.monotonic(), left)
    return problems


def left_alone(parts: Parts) -> list[str]:
    """What is not as before although everything is put back, in words."""
    record = parts.journal.record
    paths = record.put_back.left if record is not None and record.put_back is not None else []
    return [f"{path} is left as it is: somebody made it meanwhile" for path in paths]


def _section(parts: Parts, name: str, each: SectionRecord) -> list[str]:
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
    installer.flush()  # a process before this one may have put it back and been killed before it flushed
    return others


def _settings(parts: Parts, record: Record) -> None:
    if record.touches_settings:
        content = parts.store.read(record.settings_before) if record.settings_before else b""
        write_synced(Path(record.settings_file), content)
