"""A push or roll-back while it runs: a bar on a terminal, a line for each step elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hacore.cli.terminal import console
from hacore.errors import PlatformError

NAMES = {
    "compare": "comparing",
    "send": "sending",
    "stage": "staging",
    "check": "checking",
    "swap": "swapping",
    "apply": "applying",
    "restart": "restarting",
    "verify": "verifying",
    "undo": "putting back",
}
#: Columns from which a bar has a place beside its text.
BAR_COLUMNS = 60


def whole(lines: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The lines of a stream, as they come; raises PlatformError where what came last ends nothing."""
    ended = False
    for line in lines:
        ended = "progress" not in line
        yield line
    if not ended:
        raise PlatformError("the control worker ended without an outcome: see hacore events")


def follow(lines: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Shows what comes; the lines that end something: an outcome, or the problem of one of several peers."""
    from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, TextColumn

    screen = console(stderr=True)
    columns: list[ProgressColumn] = [SpinnerColumn(), TextColumn("{task.description}")]
    if screen.width >= BAR_COLUMNS:
        columns += [BarColumn(bar_width=20), TextColumn("{task.fields[amount]}")]
    said = ""
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as progress:
        task = progress.add_task("", total=None, amount="")
        for line in lines:
            if "progress" not in line:
                yield line
                continue
            step, text = line["progress"]["step"], line["progress"]["text"]
            done, total = line["progress"].get("done", 0), line["progress"].get("total", 0)
            whom = f"{line['peer']}: " if line.get("peer") else ""
            name = whom + NAMES.get(step, step)
            progress.update(
                task, description=f"{name} {text}", completed=done, total=total or None,
                amount=amount(step, done, total),
            )  # fmt: skip
            if not screen.is_terminal and said != f"{name} {text}":
                said = f"{name} {text}"
                screen.print(said, soft_wrap=True)


def amount(step: str, done: int, total: int) -> str:
    """How far it is, in bytes where contents are sent."""
    if not total:
        return ""
    if step != "send":
        return f"{done:,} of {total:,}"
    from hacore.web.wording import size

    return f"{size(done)} of {size(total)}"
