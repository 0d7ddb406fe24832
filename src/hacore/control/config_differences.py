"""Differences for people: between this node and a peer, and between two revisions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hacore.configsync import own_settings
from hacore.configsync.difference import Change, changes, is_text, table_changes, unified
from hacore.configsync.manifest import Entry, Manifest
from hacore.control.config_schemas import (
    EntryDifference,
    EntryLine,
    Files,
    RevisionLine,
    SectionDifference,
    WantedFiles,
)
from hacore.node.config_node import ConfigNode
from hacore.node.config_revisions import Revision

MOST_ENTRIES = 2000  # listed of one section
MOST_TEXTS = 200  # files of one section whose contents are compared
MOST_BYTES = 16 << 20  # of the contents that one section's difference fetches, and of what it shows
NO_TEXT = b"\0"  # stands for a content that is none
RIGHTS = ("kind", "mode", "owner", "group", "size", "target", "template", "attributes")

Content = Callable[[Manifest, str], bytes | None]


def texts_wanted(old: Manifest, new: Manifest) -> list[str]:
    """The files of `old` whose contents a difference needs."""
    wanted = [
        each.path for each in changes(old, new) if _is_content(each.old) and "digest" in (*each.fields, _gone(each))
    ]
    return wanted[:MOST_TEXTS]


def _gone(change: Change) -> str:
    return "digest" if change.new is None else ""


def _is_content(entry: Entry | None) -> bool:
    return entry is not None and entry.has_content


def section_difference(
    old: Manifest, new: Manifest, old_content: Content, new_content: Content, old_name: str, new_name: str
) -> SectionDifference:
    """What turns `old` into `new`. A content of None is too large to be shown."""
    name = new.section
    found = changes(old, new)
    if name in own_settings.BUILT_IN:
        tables = [_tables(old, old_content), _tables(new, new_content)]
        return SectionDifference(id=name, kind="settings", in_sync=not found, tables=table_changes(*tables))
    entries = []
    shown = 0
    for number, change in enumerate(found[:MOST_ENTRIES]):
        text = ""
        if number < MOST_TEXTS and ("digest" in change.fields or change.what != "changed"):
            text = _text(change, old, new, old_content, new_content, old_name, new_name)
            if shown + len(text) > MOST_BYTES:
                text = f"file {change.path} is left out: the differences of this section are too long to be shown\n"
            shown += len(text)
        fields = [field for field in change.fields if field != "path"]
        entries.append(
            EntryDifference(
                path=change.path, what=change.what, fields=fields, old=_rights(change.old), new=_rights(change.new),
                text=text,
            )
        )  # fmt: skip
    return SectionDifference(id=name, in_sync=not found, entries=entries, left_out=max(0, len(found) - MOST_ENTRIES))


def _text(
    change: Change, old: Manifest, new: Manifest, old_content: Content, new_content: Content, before: str, after: str
) -> str:
    contents: list[bytes | None] = []
    for entry, manifest, content in ((change.old, old, old_content), (change.new, new, new_content)):
        if not _is_content(entry):
            contents.append(None)
            continue
        data = content(manifest, change.path)
        if data is None:
            return f"file {change.path} is too large to be shown\n"
        contents.append(data)
    if any(data is not None and not is_text(data) for data in contents):
        return f"binary file {change.path}: {_size(change.old)} -> {_size(change.new)}\n"
    return "" if contents == [None, None] else unified(change.path, contents[0], contents[1], before, after)


def _size(entry: Entry | None) -> str:
    return f"{entry.size} bytes" if entry is not None and entry.has_content else "none"


def _tables(manifest: Manifest, content: Content) -> own_settings.Tables:
    if not manifest.entries:
        return {}
    data = content(manifest, manifest.entries[0].path)
    return own_settings.decode(data) if data is not None else {}


def _rights(entry: Entry | None) -> dict[str, Any] | None:
    if entry is None:
        return None
    return {field: getattr(entry, field) for field in RIGHTS}


def read_files(node: ConfigNode, wanted: WantedFiles) -> Files:
    """Contents for the difference that a peer makes; no more than it can take at once."""
    sections = node.sections()
    manifest = sections.comparable(wanted.section)
    files = Files(contents={})
    left = MOST_BYTES
    for path in wanted.paths:
        content = node.content_of(sections, manifest, path) if left > 0 else None
        if content is not None and not is_text(content):
            files.binary.append(path)
            continue
        left -= len(content or b"")
        files.contents[path] = content if left >= 0 else None
    return files


def from_files(files: Files) -> Content:
    """Contents that were fetched before."""
    return lambda _manifest, path: NO_TEXT if path in files.binary else files.contents.get(path)


def revision_line(revision: Revision) -> RevisionLine:
    """For a list."""
    return RevisionLine(
        number=revision.number,
        at=revision.at,
        kind=revision.kind,
        by=revision.by,
        version=revision.version,
        sections=revision.changed,
        all=list(revision.sections),
        comment=revision.comment,
    )


def entry_lines(manifest: Manifest) -> list[EntryLine]:
    """For a list."""
    fields: Sequence[str] = EntryLine.__struct_fields__
    return [EntryLine(**{field: getattr(entry, field) for field in fields}) for entry in manifest.entries]
