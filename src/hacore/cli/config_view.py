"""What `hacore config` looks like."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from hacore.cli.terminal import folded, moment
from hacore.web.wording import size

if TYPE_CHECKING:
    from rich.console import RenderableType

SHOWN_DIGEST = 12
RESULTS = {
    "applied": "applied on {node} as revision {revision}",
    "unchanged": "nothing to do: {node} has all of it",
    "checked": "checked on {node}: it would do; nothing was changed",
}
FAILED = {
    "refused": "nothing was changed on {node}",
    "undone": "{node} is as it was before",
    "broken": "{node} could not put back what it had; it tries again at the start of its control worker",
    "unchanged": "all sections of {node} are in sync",
}


def status_view(answer: dict[str, Any], width: int) -> RenderableType:
    """Each peer with its sections, then this node's own, for a terminal of `width` columns."""
    from rich.console import Group

    return Group(*_status(answer, width))


def _status(answer: dict[str, Any], width: int) -> Iterator[RenderableType]:
    from rich.text import Text

    here = answer["here"]
    if not answer["peers"]:
        yield Text("no peers", style="yellow")
    for peer in answer["peers"]:
        found = peer["answer"]
        yield Text(f"{peer['name']}  hacore {found['version']}" if found else peer["name"], style="bold")
        if peer["problem"]:
            yield Text(f"  {peer['problem']['message']}", style="bold red")
            if peer["problem"]["hint"]:
                yield Text(f"  {peer['problem']['hint']}")
            continue
        if found["busy"]:
            yield Text(f"  busy: {found['busy']}", style="yellow")
        yield from _sections(found["sections"], peer["in_sync"], width)
    yield Text(f"{here['name']} (this node)  hacore {here['version']}", style="bold")
    yield from _sections(here["sections"], {}, width)


def _sections(sections: list[dict[str, Any]], in_sync: dict[str, bool], width: int) -> Iterator[RenderableType]:
    from rich.text import Text

    widest = max((len(each["id"]) for each in sections), default=0)
    for each in sections:
        name = Text(f"  {each['id'].ljust(widest)}  ")
        if each["problem"]:
            yield folded(Text(each["problem"], style="red"), width, name)
            continue
        state = Text()
        if in_sync:
            agrees = in_sync.get(each["id"], False)
            state.append("in sync" if agrees else "not in sync", style="green" if agrees else "yellow")
        if each["changed"]:
            state.append(", " if state else "").append("changed there since the last push", style="bold yellow")
        applied = "nothing was pushed there yet" if in_sync else "nothing was pushed here"
        if each["revision"] is not None:
            applied = f"revision {each['revision']}, {moment(each['applied_at'])}, by {each['by']}"
        state.append("; " if state else "").append(applied)
        state.append(f"; {each['digest'][:SHOWN_DIGEST]}", style="dim")
        yield folded(state, width, name)


def difference_view(answer: dict[str, Any]) -> RenderableType:
    """Unified differences, and tables for hacore's own settings."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = []
    for section in answer["sections"]:
        note = "" if not section["changed_there"] else f"  changed on {answer['old']} since the last push"
        if section["problem"]:
            parts.append(Text(f"{section['id']}: {section['problem']}", style="red"))
        elif section["in_sync"]:
            parts.append(Text(f"{section['id']}: in sync{note}", style="green"))
        else:
            parts.append(Text(f"{section['id']}: {answer['old']} -> {answer['new']}{note}", style="bold"))
            parts += [_field(change) for change in section["tables"]]
            for entry in section["entries"]:
                parts += _entry(entry)
            if section["left_out"]:
                parts.append(Text(f"  and {section['left_out']} more"))
    return Group(*parts) if parts else Text("no difference")


def _field(change: dict[str, Any]) -> RenderableType:
    from rich.text import Text

    where = f"  {change['table']} {change['name']}".rstrip()
    if change["field"] == "":
        if change["old"] is None:
            return Text(f"{where}: added: {_value(change['new'])}", style="green")
        return Text(f"{where}: removed: {_value(change['old'])}", style="red")
    text = Text(f"{where}: {change['field']}: ")
    text.append(_value(change["old"]), style="red").append(" -> ").append(_value(change["new"]), style="green")
    return text


def _value(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_value(inner)}" for key, inner in value.items())
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _entry(entry: dict[str, Any]) -> list[RenderableType]:
    from rich.text import Text

    parts: list[RenderableType] = []
    one = entry["new"] or entry["old"]
    rights = [name for name in entry["fields"] if name not in ("digest", "size")]
    if entry["what"] != "changed":
        style = "green" if entry["what"] == "added" else "red"
        kind = f"link to {one['target']}" if one["kind"] == "link" else one["kind"]
        rest = "" if one["kind"] == "link" else f" {one['mode']:04o} {one['owner']}:{one['group']}"
        parts.append(Text(f"  {entry['path']}: {entry['what']}: {kind}{rest}", style=style))
    elif rights:
        both = [(name, _right(name, entry["old"][name]), _right(name, entry["new"][name])) for name in rights]
        parts.append(Text(f"  {entry['path']}: {', '.join(f'{name} {old} -> {new}' for name, old, new in both)}"))
    for line in entry["text"].splitlines():
        style = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")
        parts.append(Text(line, style="bold" if line.startswith(("+++", "---")) else style))
    if not parts:
        sizes = " -> ".join(size(each["size"]) for each in (entry["old"], entry["new"]) if each)
        parts.append(Text(f"  {entry['path']}: changed, {sizes}"))
    return parts


def _right(name: str, value: Any) -> str:
    if name == "attributes":
        return "; ".join(f"{attribute} {text}" for attribute, text in value) or "none"
    return f"{value:04o}" if name == "mode" else str(value)


def history_view(answer: dict[str, Any], width: int) -> RenderableType:
    """The oldest first, for a terminal of `width` columns."""
    from rich.console import Group
    from rich.text import Text

    if not answer["revisions"]:
        return Text(f"nothing was ever pushed to {answer['name']}; --peer NAME shows the history of a peer")
    widest = len(str(answer["revisions"][-1]["number"]))
    parts: list[RenderableType] = []
    for each in answer["revisions"]:
        what = {"found": "found there before a push", "push": f"pushed by {each['by']}"}.get(
            each["kind"], f"rolled back {each['comment']} by {each['by']}"
        )
        first = Text(f"{each['number']:>{widest}}  {moment(each['at'])}  ")
        parts.append(folded(Text(f"{', '.join(each['sections'])}: {what}"), width, first))
    return Group(*parts)


def revision_view(answer: dict[str, Any]) -> RenderableType:
    """Everything in it."""
    from rich.console import Group
    from rich.text import Text

    revision = answer["revision"]
    title = f"revision {revision['number']}, {moment(revision['at'])}, {revision['kind']} by {revision['by']}"
    parts: list[RenderableType] = [Text(f"{title}, hacore {revision['version']}", style="bold")]
    if revision["comment"]:
        parts.append(Text(revision["comment"]))
    for name, entries in answer["entries"].items():
        changed = "" if name in revision["sections"] else "  not changed by it"
        parts.append(Text(f"{name}  {answer['digests'][name][:SHOWN_DIGEST]}{changed}", style="bold"))
        for entry in entries:
            if entry["kind"] == "settings":
                parts.append(Text(f"  tables of hacore's settings, {size(entry['size'])}"))
            elif entry["kind"] == "link":
                parts.append(Text(f"  {entry['path']} -> {entry['target']}"))
            else:
                rest = size(entry["size"]) if entry["kind"] == "file" else "folder"
                parts.append(Text(f"  {entry['path']}  {entry['mode']:04o} {entry['owner']}:{entry['group']}  {rest}"))
        if not entries:
            parts.append(Text("  nothing"))
    return Group(*parts)


def outcome_text(outcome: dict[str, Any]) -> str:
    """How it ended, where it did not fail; with what became of the services."""
    lines = []
    if not outcome["failure"]:
        lines.append(RESULTS[outcome["result"]].format(**outcome))
    lines += [f"  {name}: {text}" for name, text in outcome["services"].items()]
    lines += [f"  {note}" for note in outcome["notes"]]
    return "\n".join(lines)


def failure_text(outcome: dict[str, Any]) -> str:
    """Which step, which command, its output, and how the node is now."""
    failure = outcome["failure"]
    lines = [f"{outcome['node']}: {failure['message']} (step: {failure['step']})"]
    if failure["command"]:
        lines.append(f"command: {' '.join(failure['command'])}")
    if failure["output"]:
        lines += ["output:", *(f"  {line}" for line in failure["output"].splitlines())]
    lines.append(FAILED[outcome["result"]].format(**outcome))
    lines += [f"  but: {problem}" for problem in outcome["undo"]]
    return "\n".join(lines)
