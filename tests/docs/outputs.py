"""Compares what a command wrote with what a document says it writes: the same but for times, process ids and versions.

In the document, a line `...` stands for any lines, and `...` inside a line for anything there. Where every line begins
with a moment, their order does not count: what happens at once is told in one order or another.
"""

from __future__ import annotations

import re

_DURATION = r"\d+(?:\.\d+)? (?:ms|s|min|h|d)\b(?: \d+ (?:s|min|h)\b)?"
_VARYING = (
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?",
    r"\btime \d+ms\b",
    _DURATION,
    r"\bpid \d+\b",
    r"\bhacore \d+\.\d+\.\d+\b",
)
_MOMENT = re.compile(rf"(?:{_VARYING[0]}) +")
_TOKEN = re.compile("|".join([*(f"({pattern})" for pattern in _VARYING), r"(\.\.\.)", r"(\s+)"]))


def _line_pattern(line: str) -> str:
    pattern, at = "", 0
    for found in _TOKEN.finditer(line):
        pattern += re.escape(line[at : found.start()])
        number = found.lastindex or 0
        if number <= len(_VARYING):
            pattern += f"(?:{_VARYING[number - 1]})"
        else:
            pattern += ".*" if number == len(_VARYING) + 1 else r"[ \t]+"
        at = found.end()
    return pattern + re.escape(line[at:])


def pattern(expected: str) -> re.Pattern[str]:
    """The regular expression for a whole output."""
    made = ""
    for line in expected.splitlines():
        made += r"(?:.*\n)*?" if line.strip() == "..." else _line_pattern(line.rstrip()) + r"[ \t]*\n"
    return re.compile(made)


def fits(expected: str, output: str) -> bool:
    """Whether `output` is what the document says."""
    if all(_MOMENT.match(line) for line in expected.splitlines()):
        lines = [[_MOMENT.sub("", line) for line in text.splitlines()] for text in (expected, output)]
        return sorted(lines[0]) == sorted(lines[1])
    whole = output if output.endswith("\n") else output + "\n"
    if expected.rstrip().endswith("..."):
        return pattern(expected).match(whole) is not None
    return pattern(expected).fullmatch(whole.rstrip("\n") + "\n") is not None
