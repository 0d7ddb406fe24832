"""The sections of this node: what stands here now, and in the form in which two nodes compare it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

import msgspec

from hacore.configsync import own_settings
from hacore.configsync.manifest import BadManifest, Entry, Manifest, within
from hacore.configsync.templates import SUFFIX, TemplateError, product, resolve
from hacore.node.config_own import read_parts, synced_file, tables
from hacore.node.config_revisions import Brought, Revisions
from hacore.node.config_store import Store, StoreError
from hacore.node.config_tree import Tree
from hacore.node.settings import Section, Settings

Kind = Literal["files", "settings"]
#: By whether a section is built in.
KINDS: dict[bool, Kind] = {False: "files", True: "settings"}


class SectionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One section of a node. `revision`, `applied_at` (unix seconds) and `by` are those of the last push or roll-back.

    `changed`: what stands there is not what that brought. `local`: names of tables that are the node's own;
    `not_raised`: the advskew of VIPs where that is.
    """

    id: str
    kind: Kind
    description: str = ""
    digest: str = ""
    entries: int = 0
    total_bytes: int = 0
    revision: int | None = None
    applied_at: float | None = None
    by: str = ""
    changed: bool = False
    local: dict[str, list[str]] = {}
    not_raised: dict[str, int] = {}
    problem: str = ""


class Sections:
    """Reads what stands here; the settings are those of one moment."""

    def __init__(self, settings: Settings, tree: Tree, store: Store, revisions: Revisions) -> None:
        self.settings = settings
        self._tree, self._store, self._revisions = tree, store, revisions
        self._listed = {section.id: section for section in settings.sections}
        self.contents: dict[str, bytes] = {}

    @property
    def names(self) -> list[str]:
        """What a push carries unless it is told otherwise."""
        return [section.id for section in self.settings.sections if section.sync]

    def get(self, name: str) -> Section:
        """A section by its id; the built-in ones are always there. Raises BadManifest."""
        if name in self._listed:
            return self._listed[name]
        if name in own_settings.BUILT_IN:
            return Section(id=name)
        there = ", ".join(self._listed) or "none"
        raise BadManifest("no-section", f'{self.settings.node.name} has no section "{name}"; there are: {there}')

    def roots(self, name: str) -> list[str]:
        """The paths of a section, those that its templates make included."""
        section = self.get(name)
        paths = [str(path) for path in section.paths]
        return paths + [made for path in section.templates if (made := product(str(path))) not in paths]

    def live(self, name: str) -> Manifest:
        """Exactly what is there."""
        if name not in own_settings.BUILT_IN:
            return self._tree.scan(name, self.roots(name))
        part = read_parts(synced_file(self.settings.path)).get(name)
        return Manifest(name, () if part is None else (self._settings_entry(name, own_settings.encode(part)),))

    def comparable(self, name: str, live: Manifest | None = None) -> Manifest:
        """What another node is to compare: of templates the source, of the settings what is shared."""
        if name in own_settings.BUILT_IN:
            shared = own_settings.shared(name, tables(self.settings))
            return Manifest(name, (self._settings_entry(name, own_settings.encode(shared)),))
        live = self.live(name) if live is None else live
        templates = {str(path) for path in self.get(name).templates}
        return self._with_sources(name, live, templates) if templates else live

    def wanted_there(self, name: str, there: SectionStatus | None) -> Manifest:
        """What this node wants its backup to have, whose section is as it said."""
        if name not in own_settings.BUILT_IN:
            return self.comparable(name)
        local, not_raised = (there.local, there.not_raised) if there else ({}, {})
        content = own_settings.encode(own_settings.for_peer(name, tables(self.settings), local, not_raised))
        return Manifest(name, (self._settings_entry(name, content),))

    def _settings_entry(self, name: str, content: bytes) -> Entry:
        digest = hashlib.sha256(content).hexdigest()
        self.contents[digest] = content
        return Entry(name, "settings", size=len(content), digest=digest)

    def _with_sources(self, name: str, live: Manifest, templates: set[str]) -> Manifest:
        known = live.by_path
        pushed = self._pushed(name)
        products = {product(path) for path in templates if path.endswith(SUFFIX)}
        entries = []
        for entry in live.entries:
            if entry.path in templates and entry.kind == "file":
                source = pushed.get(entry.path)
                is_source = entry.path.endswith(SUFFIX) or source is None or not source.template
                marked = msgspec.structs.replace(entry, template=True)
                if (
                    not is_source
                    and source is not None
                    and self._resolved(source) == msgspec.structs.replace(entry, template=False)
                ):
                    marked = source
                entries.append(marked)
            elif entry.path not in products:
                entries.append(entry)
        for path in sorted(products):
            source = pushed.get(path + SUFFIX)
            made = self._resolved(source) if source is not None else None
            present = known.get(path)
            if made is not None and present is not None and present != made:
                entries.append(present)  # somebody wrote over it
        return Manifest.of(name, entries)

    def _pushed(self, name: str) -> dict[str, Entry]:
        last = self._revisions.last()
        applied = last.sections.get(name) if last is not None else None
        try:
            return self._revisions.manifest(applied.pushed).by_path if applied is not None else {}
        except StoreError:
            return {}

    def _resolved(self, source: Entry) -> Entry | None:
        try:
            return resolved_entry(source, self._store, self.settings.node.variables)[0]
        except (TemplateError, StoreError):
            return None

    def brought(self, name: str) -> Brought | None:
        """What last brought a section here."""
        last = self._revisions.last()
        applied = last.sections.get(name) if last is not None else None
        return applied.brought if applied is not None else None

    def changed(self, name: str, comparable: Manifest) -> bool:
        """Whether somebody changed a section after it was pushed here. Paths that the section has got since, or has no
        more, do not count.
        """
        brought = self.brought(name)
        if brought is None or brought.digest == comparable.digest:
            return False
        roots = self.roots(name)
        if name in own_settings.BUILT_IN or set(roots) == set(brought.roots):
            return True
        pushed = self._revisions.manifest(brought.digest)
        return _within(pushed, brought.roots, roots) != _within(comparable, brought.roots, roots)

    def status(self, name: str) -> SectionStatus:
        """How a section is."""
        section = self.get(name)
        comparable = self.comparable(name)
        brought = self.brought(name)
        built_in = name in own_settings.BUILT_IN
        local = own_settings.local_names(tables(self.settings)) if built_in else {}
        return SectionStatus(
            id=name,
            kind=KINDS[built_in],
            description=section.description,
            digest=comparable.digest,
            entries=len(comparable.entries),
            total_bytes=sum(entry.size for entry in comparable.entries),
            revision=brought.revision if brought else None,
            applied_at=brought.at if brought else None,
            by=brought.by if brought else "",
            changed=self.changed(name, comparable),
            local={table: names for table, names in local.items() if names and table in own_settings.BUILT_IN[name]}
            if built_in else {},
            not_raised=own_settings.not_raised(tables(self.settings)) if name == "vips" else {},
        )  # fmt: skip


def _within(manifest: Manifest, *limits: Sequence[str]) -> list[Entry]:
    """Its entries that are below one of the paths of every list."""
    return [entry for entry in manifest.entries if all(within(entry.path, roots) for roots in limits)]


def resolved_entry(source: Entry, store: Store, variables: dict[str, str]) -> tuple[Entry, bytes]:
    """What a template becomes on this node, and its content; raises TemplateError, StoreError."""
    content = resolve(source.path, store.read(source.digest), variables)
    digest = hashlib.sha256(content).hexdigest()
    path = product(source.path)
    return msgspec.structs.replace(source, path=path, size=len(content), digest=digest, template=False), content


def here(manifest: Manifest, store: Store, variables: dict[str, str]) -> Manifest:
    """What a pushed manifest becomes on this node; the contents of resolved templates are put into the store."""
    entries = []
    for entry in manifest.entries:
        if not entry.template:
            entries.append(entry)
            continue
        made, content = resolved_entry(entry, store, variables)
        store.put(content)
        entries.append(made)
        if made.path != entry.path:
            entries.append(msgspec.structs.replace(entry, template=False))
    return Manifest.of(manifest.section, entries)
