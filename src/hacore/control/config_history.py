"""The revisions of this node: shown, compared, returned to. The functions block."""

from __future__ import annotations

from hacore.configsync.manifest import BadManifest, Manifest
from hacore.control.config_differences import entry_lines, revision_line, section_difference
from hacore.control.config_schemas import Differences, RevisionAnswer, Revisions, SectionDifference
from hacore.node.config_node import ConfigNode
from hacore.node.config_revisions import NoRevision, Revision


def history(node: ConfigNode) -> Revisions:
    """All that are kept."""
    return Revisions(name=node.name, revisions=[revision_line(each) for each in node.parts.revisions.all()])


def show(node: ConfigNode, number: int) -> RevisionAnswer:
    """One revision with all its entries; raises NoRevision."""
    revision = node.parts.revisions.get(number)
    manifests = {name: node.parts.revisions.manifest(each.live) for name, each in revision.sections.items()}
    return RevisionAnswer(
        revision=revision_line(revision),
        digests={name: manifest.digest for name, manifest in manifests.items()},
        entries={name: entry_lines(manifest) for name, manifest in manifests.items()},
    )


def compare(node: ConfigNode, number: int, to: int) -> Differences:
    """What turned revision `number` into `to`; `to` 0: what turned the one before into `number`. Raises NoRevision."""
    revisions = node.parts.revisions
    if not to:
        earlier = [each.number for each in revisions.all() if each.number < number]
        revisions.get(number)
        if not earlier:
            raise NoRevision(f"there is no revision before {number}")
        number, to = earlier[-1], number
    old, new = revisions.get(number), revisions.get(to)
    sections = node.sections()
    found: list[SectionDifference] = []
    for name in dict.fromkeys([*old.sections, *new.sections]):
        pair = [_manifest(node, each, name) for each in (old, new)]
        if pair[0] == pair[1] and pair[0].entries:
            continue

        def content(manifest: Manifest, path: str) -> bytes | None:
            try:
                return node.content_of(sections, manifest, path)
            except BadManifest:
                return None

        difference = section_difference(pair[0], pair[1], content, content, f"revision {number}", f"revision {to}")
        if not difference.in_sync:
            found.append(difference)
    return Differences(old=f"revision {number}", new=f"revision {to}", sections=found)


def _manifest(node: ConfigNode, revision: Revision, name: str) -> Manifest:
    applied = revision.sections.get(name)
    return Manifest(name) if applied is None else node.parts.revisions.manifest(applied.live)
