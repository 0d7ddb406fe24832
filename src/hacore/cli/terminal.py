"""How things are written for people: durations, moments, states and their colours."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

STYLES = {"MASTER": "bold green", "BACKUP": "cyan", "INIT": "yellow"}


def console(*, stderr: bool = False) -> Console:
    """The terminal: no colours and no control characters where output goes elsewhere."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=False, emoji=False, markup=False)


def duration(seconds: float) -> str:
    """Seconds as two units at most, such as "4 min 12 s"; a clock that was set back gives "0 s"."""
    if seconds < 1:
        return f"{max(0.0, seconds) * 1000:.0f} ms" if seconds >= 0.001 else "0 s"
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


def state_text(state: str) -> Text:
    """A CARP state in its colour."""
    from rich.text import Text

    return Text(state, style=STYLES.get(state, "bold red"))
