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
    help="A median of hacore's worse by more than this, beyond the noise, is a regression.",
)
@click.option("--all", "everything", is_flag=True, help="Also figures that did not change beyond the noise.")
@click.option("--json", "as_json", is_flag=True, help="All figures, for programs.")
def compare(before: Path, after: Path, bound: float, everything: bool, as_json: bool) -> None:
    """Show what changed between two results, by how much, and what of it is beyond the noise.

    A figure of hacore that stands beside a baseline is compared as its ratio to that, so that a slower machine is no
    regression. What a baseline did is shown as drift. A figure of hacore's that the second result lacks has vanished,
    which counts as a regression.

    A rank-sum test (Mann and Whitney), all figures taken together (Benjamini and Hochberg), says what is beyond the
    noise; with fewer than four samples on either side it says nothing. Compare runs of one machine.

    Exit codes: 1 a regression, 65 a file is no result or they are of two commands, 66 a file cannot be read
    """
    import msgspec

    from hacore.bench import compare as comparing
    from hacore.bench import result, terminal
    from hacore.cli.terminal import console

    old, new = result.load(before), result.load(after)
    if old.command != new.command:
        raise result.OtherCommand(f"{before} is of bench {old.command}, {after} of bench {new.command}")
    changes = comparing.compare(old, new, bound / 100)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(changes)).decode())
    else:
        for line in comparing.different_places(old, new):
            click.echo(f"note: {line}")
        console().print(terminal.comparison(changes, comparing.shown(changes, everything), bound / 100))
    if found := comparing.regressions(changes):
        raise HacoreError(f"{len(found)} regression{'s' * (len(found) > 1)} past {bound:g} %")


@click.command()
@click.argument("file", type=_result)
@output_options
def report(file: Path, output: str | None, html: str | None, as_json: bool) -> None:
    """Show a result of an earlier run again, or make its page.

    Exit codes: 65 the file is no result, 66 it cannot be read
    """
    from hacore.bench.result import load

    write(load(file), output, html, as_json)
