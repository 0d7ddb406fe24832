"""`hacore bench sync`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from hacore.cli.bench_output import output_options, shown, without_option

if TYPE_CHECKING:
    from hacore.bench.result import Result


class Amount(click.ParamType):  # type: ignore[type-arg] # not to be subscripted in older versions of click
    """A whole number above 0, also written 10k or 1M."""

    name = "N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number; a usage error where it is none."""
        if isinstance(value, int):
            return value
        factor = {"k": 1_000, "M": 1_000_000}.get(value[-1:], 1)
        try:
            number = float(value[: -1 if factor > 1 else None].replace("_", "")) * factor
        except ValueError:
            number = 0
        if number < 1 or number != round(number) or number > 10_000_000:
            self.fail(f"{value!r} is no whole number from 1 to 10M (10000, 10k, 1M)", param, ctx)
        return round(number)


AMOUNT = Amount()
PARTS = {
    "bulk": "Everything at once, to a node that has nothing.",
    "steady": "New connections at a steady rate: CPU, lag, bytes on the wire, memory.",
    "highest": "The highest rate of new connections at which none is lost.",
    "churn": "Connections that are new, established, closed and destroyed.",
}


class Sync(click.Command):
    """Its help lists the parts."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the parts before the options."""
        with formatter.section("Parts"):
            formatter.write_dl(list(PARTS.items()))
        super().format_options(ctx, formatter)


@click.command(cls=Sync)
@click.argument("parts", nargs=-1, type=click.Choice(list(PARTS)), metavar="[PART]...")
@click.option(
    "--states", type=AMOUNT, multiple=True, help="Size of a bulk update, also as 10k or 1M; several times for several."
)
@click.option("--rate", "rates", type=AMOUNT, multiple=True, help="New flows a second of a steady load; also several.")
@click.option("--churn-rate", "churn_rates", type=AMOUNT, multiple=True, help="Flows a second that come and go.")
@click.option("--first-rate", type=AMOUNT, help="Where the search for the highest loss-free rate begins.")
@click.option("--duration", type=click.FloatRange(0.5, 600), metavar="SECONDS", help="How long each load lasts.")
@click.option(
    "--repeat",
    type=click.IntRange(1, 100),
    metavar="N",
    help="How often everything is measured; compare wants 4.  [default: 5; quick: 1]",
)
@click.option("--quick", is_flag=True, help="Small sizes, short loads, once: about two minutes.")
@without_option("conntrackd")
@click.option("--name", default="bench", show_default=True, metavar="NAME", help="Name of the lab made for it.")
@output_options
def sync(
    parts: tuple[str, ...],
    quick: bool,
    output: str | None,
    html: str | None,
    as_json: bool,
    name: str,
    **chosen: Any,
) -> None:
    """Measure how connections get from one kernel to another, beside conntrackd and a bare injector.

    Without a PART, all of them. Builds two nodes in network namespaces for the time of the run. Wants root, and the
    Debian package conntrackd.

    What was measured is shown and written also where the run is interrupted, or parts of it fail.

    Exit codes: 69 a program is missing, 75 the lab's name is taken, 77 not root, 130 interrupted
    """
    from hacore.bench import sync as measuring
    from hacore.bench.record import Record
    from hacore.bench.running import Running
    from hacore.lab import record as labs

    given = {key: value for key, value in chosen.items() if value not in (None, ())}
    defaults = measuring.QUICK if quick else measuring.Options()
    options = measuring.with_options(defaults, given | ({"parts": parts} if parts else {}))
    if problem := options.problem():
        raise click.UsageError(problem)
    directory = labs.directory_of(name, labs.base_directory())
    record = Record()
    running = Running("sync", [peer for peer in measuring.PEERS if peer not in options.without], record)

    def result() -> Result:
        return running.result(settings=measuring.settings(options), left_out=options.without, series=record.series)

    with shown(running, result, output, html, as_json) as tell:
        measuring.measure(options, directory, running, record, tell)
