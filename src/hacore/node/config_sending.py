"""The sending side of a push: what differs from the peer, and the stream of the contents that it lacks. Blocks."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

from hacore import __version__
from hacore.configsync.manifest import BadManifest, Entry, Manifest
from hacore.configsync.own_settings import BUILT_IN
from hacore.configsync.stream import head
from hacore.node.config_digests import READ_BYTES, ChangedMeanwhile
from hacore.node.config_node import ConfigNode, PushRequest, Restart
from hacore.node.config_sections import Sections, SectionStatus

GATHER_BYTES = 1 << 20  # small contents travel together


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

    def wanted(self, name: str, there: SectionStatus | None) -> Manifest:
        """What the peer is to have of a section."""
        return self._read.get(name) or self._sections.wanted_there(name, there.local if there else {})

    def content(self, manifest: Manifest, path: str) -> bytes | None:
        """For a difference: as `ConfigNode.content`."""
        return self._node.content_of(self._sections, manifest, path)

    def compare(self, there: Sequence[SectionStatus]) -> None:
        """Find out what differs from the peer's sections."""
        known = {each.id: each for each in there}
        for name in self.names:
            peers = known.get(name)
            manifest = self.wanted(name, peers)
            self.digests[name] = manifest.digest
            if peers is not None and peers.digest == self.digests[name] and not peers.problem:
                self.unchanged.append(name)
            else:
                self.manifests.append(manifest)

    def request(
        self, *, overrides: Sequence[str] = (), restart: Restart = "changed", dry_run: bool = False
    ) -> PushRequest:
        """What the peer is asked."""
        return PushRequest(
            sender=self.settings.node.name,
            version=__version__,
            sections=self.manifests,
            overrides=list(overrides),
            restart=restart,
            unchanged=self.unchanged,
            dry_run=dry_run,
        )

    def stream(self, lacking: Mapping[str, int]) -> Iterator[bytes]:
        """The contents that the peer lacks, framed; raises ChangedMeanwhile where a file is no longer as it was read,
        BadManifest where the peer wants what this push does not have.
        """
        left = dict(lacking)
        gathered: list[bytes] = []
        size = 0
        for manifest in self.manifests:
            for entry in manifest.entries:
                if not entry.has_content or left.pop(entry.digest, None) is None:
                    continue
                gathered.append(head(entry.digest, entry.size))
                for data in self._content(manifest.section, entry):
                    gathered.append(data)
                    size += len(data)
                    if size >= GATHER_BYTES:
                        yield b"".join(gathered)
                        gathered, size = [], 0
        if gathered:
            yield b"".join(gathered)
        if left:
            raise BadManifest("content-missing", f"the peer asks for {len(left)} contents that this push does not have")

    def _content(self, section: str, entry: Entry) -> Iterator[bytes]:
        if entry.kind == "settings":
            yield self._sections.contents[entry.digest]
            return
        if entry.template and self._node.parts.store.has(entry.digest):
            yield self._node.parts.store.read(entry.digest)
            return
        try:
            handle = self._node.parts.tree.open_file(entry.path, self._sections.roots(section))
        except OSError as error:
            raise ChangedMeanwhile(f"{entry.path} cannot be read any more: {error.strerror}") from None
        try:
            left = entry.size
            if os.fstat(handle).st_size != left:
                raise ChangedMeanwhile(f"{entry.path} changed while it was sent; try again")
            while left:
                data = os.read(handle, min(left, READ_BYTES))
                if not data:
                    raise ChangedMeanwhile(f"{entry.path} changed while it was sent; try again")
                left -= len(data)
                yield data
        finally:
            os.close(handle)
