"""The sending side of a push: what differs from the peer, and the stream of the contents that it lacks. Blocks."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

from hacore import __version__
from hacore.configsync.manifest import BadManifest, Entry, Manifest
from hacore.configsync.own_settings import BUILT_IN, check_raised, raised_there
from hacore.configsync.stream import head
from hacore.node.config_digests import READ_BYTES, ChangedMeanwhile
from hacore.node.config_node import ConfigNode, PushRequest, Restart
from hacore.node.config_own import tables
from hacore.node.config_sections import Sections, SectionStatus
from hacore.node.config_tree import Folder, Tree


class Sending:
    """One push: made, it has read this node's sections; then `compare` it with what the peer said of its own.

    `names` are the sections to push, none for all that the settings list.
    """

    def __init__(self, node: ConfigNode, names: Sequence[str] = ()) -> None:
        self._node = node
        self._sections: Sections = node.sections()
        self.settings = self._sections.settings
        self.names = list(names) or self._sections.names
        self._read = {name: self._sections.comparable(name) for name in self.names if name not in BUILT_IN}
        for name in self.names:
            self._sections.get(name)
        self.manifests: list[Manifest] = []
        self.unchanged: list[str] = []
        self.digests: dict[str, str] = {}
        self.raised: dict[str, int] = {}

    def wanted(self, name: str, there: SectionStatus | None) -> Manifest:
        """What the peer is to have of a section."""
        return self._read.get(name) or self._sections.wanted_there(name, there)

    def content(self, manifest: Manifest, path: str) -> bytes | None:
        """For a difference: as `ConfigNode.content`."""
        return self._node.content_of(self._sections, manifest, path)

    def compare(self, there: Sequence[SectionStatus]) -> None:
        """Find out what differs from the peer's sections."""
        known = {each.id: each for each in there}
        for name in self.names:
            peers = known.get(name)
            manifest = self.wanted(name, peers)
            if name == "vips":
                self.raised = raised_there(tables(self.settings), peers.not_raised if peers else {})
            self.digests[name] = manifest.digest
            if peers is not None and peers.digest == self.digests[name] and not peers.problem:
                self.unchanged.append(name)
            else:
                self.manifests.append(manifest)

    def request(
        self, *, overrides: Sequence[str] = (), restart: Restart = "changed", dry_run: bool = False
    ) -> PushRequest:
        """What the peer is asked. Raises BadManifest where a backup's advskew cannot be raised."""
        if any(manifest.section == "vips" for manifest in self.manifests):
            check_raised(tables(self.settings))
        return PushRequest(
            sender=self.settings.node.name,
            version=__version__,
            sections=self.manifests,
            overrides=list(overrides),
            restart=restart,
            unchanged=self.unchanged,
            raised=self.raised,
            dry_run=dry_run,
        )

    def stream(self, lacking: Mapping[str, int]) -> Iterator[memoryview]:
        """The contents that the peer lacks, framed, in pieces that are valid until the next one is asked for.

        Raises ChangedMeanwhile where a file is no longer as it was read, BadManifest where the peer wants what this
        push does not have.
        """
        left = dict(lacking)
        piece = _Piece(self._node.parts.tree)
        try:
            for manifest in self.manifests:
                roots = self._sections.roots(manifest.section)
                for entry in manifest.entries:
                    if not entry.has_content or left.pop(entry.digest, None) is None:
                        continue
                    yield from piece.bytes(head(entry.digest, entry.size))
                    if (content := self._held(entry)) is not None:
                        yield from piece.bytes(content)
                    else:
                        yield from piece.file(entry, roots)
            if piece.filled:
                yield piece.view[: piece.filled]
        finally:
            piece.close()
        if left:
            raise BadManifest("content-missing", f"the peer asks for {len(left)} contents that this push does not have")

    def _held(self, entry: Entry) -> bytes | None:
        """The content of an entry that stands nowhere as a file."""
        if entry.kind == "settings":
            return self._sections.contents[entry.digest]
        if entry.template and self._node.parts.store.has(entry.digest):
            return self._node.parts.store.read(entry.digest)
        return None


class _Piece:
    """A buffer that is filled with small contents and parts of large ones, and given away whenever it is full."""

    def __init__(self, tree: Tree) -> None:
        self._folder = Folder(tree)
        self.view = memoryview(bytearray(READ_BYTES))
        self.filled = 0

    def close(self) -> None:
        self._folder.close()

    def bytes(self, data: bytes) -> Iterator[memoryview]:
        left = memoryview(data)
        while len(left):
            count = min(len(left), len(self.view) - self.filled)
            self.view[self.filled : self.filled + count] = left[:count]
            left = left[count:]
            yield from self._count(count)

    def file(self, entry: Entry, roots: Sequence[str]) -> Iterator[memoryview]:
        try:
            handle = self._folder.open_file(entry.path, roots)
        except OSError as error:
            raise ChangedMeanwhile(f"{entry.path} cannot be read any more: {error.strerror}") from None
        try:
            left = entry.size
            if os.fstat(handle).st_size != left:
                raise ChangedMeanwhile(f"{entry.path} changed while it was sent; try again")
            while left:
                count = os.readv(handle, [self.view[self.filled : self.filled + left]])
                if not count:
                    raise ChangedMeanwhile(f"{entry.path} changed while it was sent; try again")
                left -= count
                yield from self._count(count)
        finally:
            os.close(handle)

    def _count(self, count: int) -> Iterator[memoryview]:
        self.filled += count
        if self.filled == len(self.view):
            self.filled = 0
            yield self.view
