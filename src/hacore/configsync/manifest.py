"""A section as a list of entries: each file, folder and link with all that a push carries of it.

Paths are absolute and the same on all nodes. Owners and groups are names; "#1000" is an id that has no name.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

import msgspec

from hacore.configsync.attributes import Attributes, BadAttribute
from hacore.configsync.attributes import check as check_attributes
from hacore.errors import HacoreError

Kind = Literal["file", "folder", "link", "settings"]

LARGEST_MODE = 0o7777
LONGEST_PATH_BYTES = 4096  # PATH_MAX of linux/limits.h
LONGEST_NAME_BYTES = 255  # NAME_MAX
MOST_ENTRIES = 200_000  # bounds the memory that a peer can force: about 100 MB
LARGEST_OBJECT_BYTES = 8 << 30
OWNER = re.compile(r"#[0-9]{1,10}|[^\s:#/\0][^\s:/\0]{0,63}")
DIGEST = re.compile(r"[0-9a-f]{64}")
#: What stands beside a file while it is being replaced; never part of a section.
TEMPORARY = ".hacore-new-"


class BadManifest(HacoreError):
    """A manifest that no node may send; `code` names the rule that it breaks."""

    exit_code = 65

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One file, folder or link, or the tables of a built-in section (`settings`: `path` is the section's id).

    `mode` has the lower 12 bits and is 0 for links; `size` in bytes and `digest` (SHA-256, hexadecimal) are those of
    the content; `target` is the text of a link. `template`: the content is resolved by the node that receives it.
    `attributes` are extended attributes of a file or folder, as `configsync.attributes` writes them.
    """

    path: str
    kind: Kind
    mode: int = 0
    owner: str = ""
    group: str = ""
    size: int = 0
    digest: str = ""
    target: str = ""
    template: bool = False
    attributes: Attributes = ()

    @property
    def has_content(self) -> bool:
        """Whether an object belongs to it."""
        return self.kind in ("file", "settings")


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All entries of a section, sorted by path."""

    section: str
    entries: tuple[Entry, ...] = ()

    @classmethod
    def of(cls, section: str, entries: Iterable[Entry]) -> Manifest:
        """The same, from entries in any order."""
        return cls(section, tuple(sorted(entries, key=lambda entry: entry.path)))

    def encode(self) -> bytes:
        """The canonical bytes: equal manifests, and only these, have equal bytes."""
        return msgspec.json.encode(self)

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical bytes, hexadecimal."""
        return hashlib.sha256(self.encode()).hexdigest()

    @property
    def by_path(self) -> dict[str, Entry]:
        """Entries under their paths."""
        return {entry.path: entry for entry in self.entries}

    def objects(self) -> dict[str, int]:
        """The digests of all contents, with their sizes."""
        return {entry.digest: entry.size for entry in self.entries if entry.has_content}


def decode(data: bytes) -> Manifest:
    """Canonical bytes back to a manifest; raises BadManifest."""
    try:
        return msgspec.json.decode(data, type=Manifest)
    except msgspec.DecodeError as error:
        raise BadManifest("manifest", f"not a manifest: {error}") from None


def within(path: str, roots: Iterable[str]) -> bool:
    """Whether `path` is one of `roots` or lies below one, by its text alone."""
    return any(path == root or path.startswith(root.rstrip("/") + "/") for root in roots)


def folders_above(path: str) -> Iterator[str]:
    """From the folder that holds `path` up to the root."""
    while path != "/":
        path = posixpath.dirname(path)
        yield path


def is_utf8(text: str) -> bool:
    """Whether a name or target that the kernel gave has no bytes that are none of UTF-8."""
    return text.isascii() or not any("\udc80" <= letter <= "\udcff" for letter in text)


def check_path(path: str) -> None:
    """A path that means the same to everybody; raises BadManifest."""
    if not path.startswith("/") or path.startswith("//"):
        raise BadManifest("path-not-absolute", f"{_shown(path)} is not an absolute path")
    if ".." in path.split("/"):
        raise BadManifest("path-not-normal", f'{_shown(path)} has ".." in it')
    if posixpath.normpath(path) != path or "\0" in path:
        raise BadManifest("path-not-normal", f"{_shown(path)} is not a normal path")
    try:
        parts = [part.encode() for part in path.split("/")]
    except UnicodeEncodeError:
        raise BadManifest("path-not-normal", f"{_shown(path)} is not text that UTF-8 can hold") from None
    if max(map(len, parts)) > LONGEST_NAME_BYTES or sum(map(len, parts)) + len(parts) > LONGEST_PATH_BYTES:
        raise BadManifest("path-too-long", f"{_shown(path)} is longer than a path can be")
    if any(part.startswith(TEMPORARY.encode()) for part in parts):
        raise BadManifest("path-not-normal", f"{_shown(path)} has a name that hacore keeps for itself")


def check_manifest(manifest: Manifest, roots: Sequence[str], forbidden: Mapping[str, str]) -> None:
    """The rules that hold for a section of files with these paths; raises BadManifest for the first one broken.

    `forbidden` are paths that no section may reach, each with the reason.
    """
    if len(manifest.entries) > MOST_ENTRIES:
        raise BadManifest("too-many-entries", f"{len(manifest.entries)} entries; at most {MOST_ENTRIES}")
    known: dict[str, Entry] = {}
    before = ""
    for entry in manifest.entries:
        check_path(entry.path)
        if entry.path in known:
            raise BadManifest("path-twice", f"{_shown(entry.path)} stands there twice")
        if entry.path < before:
            raise BadManifest("manifest", f"{_shown(entry.path)} is not in the order of paths")
        before = entry.path
        if not within(entry.path, roots):
            raise BadManifest(
                "path-outside", f"{_shown(entry.path)} is not among the paths of the section {manifest.section}"
            )
        for path, reason in forbidden.items():
            if within(entry.path, [path]) or (entry.kind != "folder" and within(path, [entry.path])):
                raise BadManifest("path-forbidden", f"{_shown(entry.path)} {reason}")
        _check_entry(entry)
        parent = posixpath.dirname(entry.path)
        if entry.path not in roots and (parent not in known or known[parent].kind != "folder"):
            raise BadManifest("parent-no-folder", f"{_shown(entry.path)} lies in {_shown(parent)}, which is no folder")
        known[entry.path] = entry


def _check_entry(entry: Entry) -> None:
    if entry.kind == "settings":
        raise BadManifest("manifest", f"{_shown(entry.path)} is an entry of a built-in section")
    if not 0 <= entry.mode <= LARGEST_MODE or (entry.kind == "link" and entry.mode):
        raise BadManifest("mode", f"{_shown(entry.path)} has the mode {entry.mode:#o}")
    for name in (entry.owner, entry.group):
        if not OWNER.fullmatch(name):
            raise BadManifest(
                "owner", f"{_shown(entry.path)} belongs to {_shown(name)}, which is no name of a user or group"
            )
    if entry.kind == "file":
        if not 0 <= entry.size <= LARGEST_OBJECT_BYTES:
            raise BadManifest(
                "too-large", f"{_shown(entry.path)} is said to have {entry.size} bytes; at most {LARGEST_OBJECT_BYTES}"
            )
        if not DIGEST.fullmatch(entry.digest):
            raise BadManifest("digest", f"{_shown(entry.path)} has no SHA-256 digest")
    elif entry.size or entry.digest or entry.template:
        raise BadManifest("manifest", f"{_shown(entry.path)} is a {entry.kind} and has no content")
    if (entry.kind == "link") != bool(entry.target):
        raise BadManifest(
            "manifest", f"{_shown(entry.path)} is a {entry.kind}{' without' if not entry.target else ' with'} a target"
        )
    if entry.attributes:
        if entry.kind == "link":
            raise BadManifest("attributes", f"{_shown(entry.path)} is a link and has no attributes")
        try:
            check_attributes(entry.attributes)
        except BadAttribute as error:
            raise BadManifest("attributes", f"{_shown(entry.path)}: {error}") from None
    if "\0" in entry.target or len(entry.target.encode(errors="replace")) >= LONGEST_PATH_BYTES:
        raise BadManifest("manifest", f"{_shown(entry.path)} has a target that no link can have")


def leads_outside(entry: Entry, roots: Sequence[str]) -> bool:
    """Whether a link may lead out of the section.

    By text alone: ".." counts only at the beginning of the target, because behind another link it means another place.
    """
    parts = [part for part in entry.target.split("/") if part not in ("", ".")]
    while parts and parts[0] == "..":
        parts.pop(0)
    if ".." in parts:
        return True
    return not within(posixpath.normpath(posixpath.join(posixpath.dirname(entry.path), entry.target)), roots)


def check_links(manifest: Manifest, present: Manifest, roots: Sequence[str]) -> None:
    """Refuses each link that leads out of the section, unless the very same stands there already; BadManifest."""
    known = present.by_path
    for entry in manifest.entries:
        there = known.get(entry.path)
        stands = there is not None and there.kind == "link" and there.target == entry.target
        if entry.kind == "link" and not stands and leads_outside(entry, roots):
            raise BadManifest(
                "link-outside",
                f"the link {_shown(entry.path)} leads out of the section {manifest.section}, to "
                f"{_shown(entry.target)}; outside_links = true in the receiving node's section allows it",
            )


def _shown(text: str) -> str:
    cleaned = "".join(character if character.isprintable() else "?" for character in text)
    return cleaned if len(cleaned) <= 200 else cleaned[:197] + "..."
