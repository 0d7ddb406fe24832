"""`hacore doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hacore.cli.options import json_option, settings_option
from hacore.errors import HacoreError

if TYPE_CHECKING:
    from hacore.cli.doctor_findings import Finding


class Unfit(HacoreError):
    """Something that a node needs is not there."""

    exit_code = 1


@click.command
@settings_option
@json_option
def doctor(settings_path: str, as_json: bool) -> None:
    """Examine what this machine gives a node, and the node.

    Looks at privileges, kernel features, the clock, the settings and the running node; changes nothing. Run it as the
    node's user (root). What is marked "!" the node can live without, at the price that is told.

    Exit codes: 0 everything needed is there, 1 something is not
    """
    import json

    from hacore.cli.doctor_findings import examine_all

    topics = examine_all(settings_path)
    needed = [one for findings in topics.values() for one in findings if one.needed and not one.ok]
    if as_json:
        whole = {topic: [one._asdict() for one in findings] for topic, findings in topics.items()}
        click.echo(json.dumps({"ok": not needed, "findings": whole}, indent=2, ensure_ascii=False))
    else:
        _print(topics)
    if needed:
        raise Unfit(f"not fit to run: {', '.join(one.name for one in needed)}")


def _print(topics: dict[str, list[Finding]]) -> None:
    from rich.text import Text

    from hacore.cli.terminal import console, folded

    out = console()
    for topic, findings in topics.items():
        out.print(topic, style="bold")
        for one in findings:
            mark, style = ("ok", "green") if one.ok else ("NO", "bold red") if one.needed else ("!", "yellow")
            line = Text.assemble(one.name, ": ", (one.finding, style if not one.ok else ""))
            out.print(folded(line, out.width, Text.assemble("  ", (mark.ljust(4), style))))
            if one.remedy:
                out.print(folded(Text(one.remedy), out.width, Text("        -> ")))
