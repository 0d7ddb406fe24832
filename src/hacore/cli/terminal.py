"""How things are written for people: durations, moments, states and their colours."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

#: Wider than any line.
UNFOLDED_COLUMNS = 1000
STYLES = {"MASTER": "bold green", "BACKUP": "cyan", "INIT": "yellow"}


def console(*, stderr: bool = False) -> Console:
    """The terminal: where output goes elsewhere, no colours, and lines that are not folded (unless COLUMNS says so)."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or os.environ.get("COLUMNS") else UNFOLDED_COLUMNS
    return Console(stderr=stderr, width=width, highlight=False, emoji=False, markup=False)


def duration(seconds: float) -> str:
    """Seconds as two units at most, such as "4 min 12 s"; a clock that was set back gives "0.0 ms"."""
    if seconds < 1:
        thousandths = max(0.0, seconds) * 1000
        return f"{thousandths:.0f} ms" if thousandths >= 10 else f"{thousandths:.1f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def moment(unix: float, *, fraction: bool = False) -> str:
    """Local time; with `fraction` milliseconds."""
    whole = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(unix))
    return f"{whole}.{int(unix % 1 * 1000):03d}" if fraction else whole


def folded(text: Text, width: int, first: Text | None = None) -> Text:
    """`text` wrapped for a terminal of `width` columns and indented by four, or by the length of `first`.

    Unlike a Padding of rich it has no spaces at the ends of its lines, which a pipe would carry on.
    """
    from rich.text import Text

    margin = 4 if first is None else first.cell_len
    lines = text.wrap(console(), max(16, width - margin))
    for line in lines:
        line.rstrip()
    joined = Text("\n" + margin * " ").join(lines)
    return (Text(margin * " ") if first is None else first.copy()).append_text(joined)


def state_text(state: str) -> Text:
    """A CARP state in its colour."""
    from rich.text import Text

    return Text(state, style=STYLES.get(state, "bold red"))
