"""`hacore bench compare` and `hacore bench report`: what is done with the results of earlier runs."""

from __future__ import annotations

from pathlib import Path

import click

from hacore.cli.bench_output import output_options, write
from hacore.errors import HacoreError

_result = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("before", type=_result)
@click.argument("after", type=_result)
@click.option(
    "--bound",
    type=click.FloatRange(0, 1000),
    default=10.0,
    show_default=True,
    metavar="PERCENT",
    help="A median worse by more than this, beyond the noise, is a regression.",
)
@click.option("--all", "everything", is_flag=True, help="Also figures that did not change beyond the noise.")
@click.option("--json", "as_json", is_flag=True, help="All figures, for programs.")
def compare(before: Path, after: Path, bound: float, everything: bool, as_json: bool) -> None:
    """Show what changed between two results, by how much, and what of it is beyond the noise.

    A change is beyond the noise where a rank-sum test (Mann and Whitney) gives it less than one chance in a hundred
    without a cause; with fewer than five samples each, where all of one run are beyond all of the other.
    Compare runs of one machine.

    Exit codes: 1 a regression, 65 a file is no result
    """
    import msgspec

    from hacore.bench import compare as comparing
    from hacore.bench import result, terminal
    from hacore.cli.terminal import console

    old, new = result.load(before), result.load(after)
    if old.command != new.command:
        raise HacoreError(f"{before} is of bench {old.command}, {after} of bench {new.command}")
    changes = comparing.compare(old, new, bound / 100)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(changes)).decode())
    else:
        for line in comparing.different_places(old, new):
            click.echo(f"note: {line}")
        seen = list(comparing.shown(changes, everything))
        console().print(terminal.comparison(seen, bound / 100, sum(each.verdict == "same" for each in changes)))
    if found := comparing.regressions(changes):
        raise HacoreError(f"{len(found)} regression{'s' * (len(found) > 1)} past {bound:g} %")


@click.command()
@click.argument("file", type=_result)
@output_options
def report(file: Path, output: str | None, html: str | None, as_json: bool) -> None:
    """Show a result of an earlier run again, or make its page.

    Exit code: 65 the file is no result
    """
    from hacore.bench.result import load

    write(load(file), output, html, as_json)
