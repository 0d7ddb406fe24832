"""`hacore bench scale`."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import click

from hacore.cli.bench_output import output_options, shown, without_option

if TYPE_CHECKING:
    from hacore.bench.result import Scalar

MOST = 1014
SIZES = (1, 10, 100, 1000)
QUICK_SIZES = (1, 100)


@click.command()
@click.argument("sizes", nargs=-1, type=click.IntRange(1, MOST), metavar="[VHIDS]...")
@click.option(
    "--repeat",
    type=click.IntRange(1, 100),
    metavar="N",
    help="How often all is measured; compare wants 4.  [default: 4; quick: 1]",
)
@click.option(
    "--seconds",
    type=click.FloatRange(5, 3600),
    metavar="SECONDS",
    help="How long the idle pair is looked at, each time.  [default: 20; quick: 5]",
)
@click.option(
    "--whole/--no-whole", default=True, help="Whether also an idle node with all its workers is measured (the default)."
)
@without_option("keepalived")
@click.option("--quick", is_flag=True, help="1 and 100 VHIDs, shortly: three minutes.")
@output_options
def scale(
    sizes: tuple[int, ...],
    repeat: int | None,
    seconds: float | None,
    whole: bool,
    without: tuple[str, ...],
    quick: bool,
    output: str | None,
    html: str | None,
    as_json: bool,
) -> None:
    """Measure a pair with 1 to 1,000 VHIDs, by turns with keepalived: both advertise each once a second.

    VHIDS are the sizes, instead of 1, 10, 100 and 1000. Wants root, and the Debian packages keepalived and,
    but for --no-whole, conntrackd.

    What was measured is shown and written also where the run is interrupted, or parts of it fail.

    Exit codes: 69 a program is missing, 77 not allowed, 130 interrupted
    """
    from hacore.bench import samples, subjects
    from hacore.bench import scale as measuring
    from hacore.bench.running import Running

    chosen = measuring.chosen(without, whole)
    measured = sizes or (QUICK_SIZES if quick else SIZES)
    plan = measuring.Plan(chosen, measured, repeat or (1 if quick else 4), seconds or (5.0 if quick else 20.0), whole)
    running = Running("scale", subjects.programs(measuring.needed(plan)), samples.Samples())
    settings: dict[str, Scalar | list[Scalar]] = {
        "sizes": list(measured),
        "repeat": plan.repeat,
        "seconds": plan.seconds,
        "whole": whole,
    }
    made = functools.partial(running.result, settings=settings, left_out=without)
    with shown(running, made, output, html, as_json) as tell:
        running.carry_out(list(measuring.parts(plan, running)), tell)
