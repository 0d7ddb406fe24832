"""What `hacore doctor` finds about the node API: does this node listen, does each peer answer, and if not, why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hacore.cli.doctor_findings import Finding
    from hacore.node.settings import Settings


def examine_control(settings: Settings) -> Iterator[Finding]:
    """Asks the control worker, and it asks the peers; nothing where the settings have no `[control]`."""
    from hacore.cli.doctor_findings import Finding
    from hacore.control.local import LocalClient
    from hacore.errors import HacoreError

    if settings.control is None:
        return
    asked = LocalClient(settings.node.runtime_dir)
    try:
        condition = asked.ask("GET", "/control")
        peers = asked.ask("GET", "/peers")
    except HacoreError as error:
        yield Finding("control worker", False, False, str(error), "hacore events; journalctl -u hacore")
        return
    place = condition["listen"]
    if condition["listens"]:
        yield Finding("listens", True, False, f"on {place} for the peers")
    else:
        why = "; ".join(condition["warnings"]) or "it has only just begun"
        yield Finding("listens", False, False, f"not on {place}: {why}", "the peers cannot ask this node anything")
    for peer in peers:
        name, problem = f"peer {peer['name']}", peer["problem"]
        if problem is None:
            node = peer["node"]
            other = node["version"] != condition["version"]
            text = f"answers on {peer['place']}, hacore {node['version']}"
            remedy = "a push needs the same version on both nodes" if other else ""
            yield Finding(name, not other, False, text, remedy)
        else:
            yield Finding(name, False, False, problem["message"], problem["hint"])
    if not peers:
        yield Finding("peers", False, False, "none with `control` in the settings", "add a [[peer]] table")
