"""`hacore bench failover`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hacore.cli.bench_output import output_options, shown, without_option

if TYPE_CHECKING:
    from hacore.bench.result import Result

SCENARIOS = (
    "stop", "maintenance", "crash", "worker-crash", "worker-hang", "hang", "link-down", "power", "partition", "flap",
)  # fmt: skip
QUICK = ("stop", "crash", "power")
SUBJECTS = ("hacore", "hacore classic", "keepalived 0.01", "keepalived 0.1", "keepalived 1", "ucarp")
QUICK_SUBJECTS = ("hacore", "keepalived 0.01")
PEERS = ("keepalived", "ucarp")


@click.command()
@click.argument("scenarios", nargs=-1, type=click.Choice(SCENARIOS), metavar="[SCENARIO]...")
@click.option(
    "--repeat",
    type=click.IntRange(1, 1000),
    metavar="N",
    help="How often each is played by each subject.  [default: 20; quick: 3]",
)
@click.option(
    "--load",
    type=click.Choice(["none", "full", "both"]),
    metavar="LOAD",
    help="none; full: the pair carries flows and idle connections meanwhile; or both, one after the other.  "
    "[default: both; quick: none]",
)
@click.option(
    "--flows",
    type=click.IntRange(1, 20_000),
    default=1000,
    show_default=True,
    metavar="N",
    help="TCP connections of the load.",
)
@click.option(
    "--fill",
    type=click.IntRange(0, 4_000_000),
    metavar="N",
    default=500_000,
    show_default=True,
    help="Idle connections of the load, in the tables of both nodes.",
)
@click.option(
    "--subject", "names", type=click.Choice(SUBJECTS), multiple=True, metavar="NAME",
    help=f"Only this one; several times for several: {', '.join(SUBJECTS)}.",
)  # fmt: skip
@without_option(*PEERS)
@click.option("--family", type=click.Choice(["4", "6"]), default="4", show_default=True, help="The probe's IP version.")
@click.option("--quick", is_flag=True, help="Three scenarios, hacore and keepalived 0.01 without load: three minutes.")
@output_options
def failover(
    scenarios: tuple[str, ...],
    repeat: int | None,
    load: str | None,
    flows: int,
    fill: int,
    names: tuple[str, ...],
    without: tuple[str, ...],
    family: str,
    quick: bool,
    output: str | None,
    html: str | None,
    as_json: bool,
) -> None:
    """Play the lab's scenarios by turns with hacore, keepalived with conntrackd, and ucarp, and show what each costs.

    A SCENARIO is stop, maintenance, crash, worker-crash, worker-hang, hang, link-down, power, partition or flap, as
    `hacore lab list` explains them. Without one, all of them: this takes hours.

    A number after keepalived is its advert_int in seconds; hacore's profile is the fast one, but for hacore classic.
    Wants root, and the Debian packages keepalived, conntrackd and
    ucarp.

    What was measured is shown and written also where the run is interrupted, or parts of it fail.

    Exit codes: 69 a program is missing, 77 not allowed, 130 interrupted
    """
    from hacore.bench import failover as measuring
    from hacore.bench import samples, subjects
    from hacore.bench.running import Running

    played = scenarios or (QUICK if quick else SCENARIOS)
    chosen = subjects.chosen(names or (QUICK_SUBJECTS if quick else ()), without)
    loads = {
        "none": [measuring.Load()],
        "full": [measuring.Load(flows, fill)],
        "both": [measuring.Load(), measuring.Load(flows, fill)],
    }[load or ("none" if quick else "both")]
    plan = measuring.Plan(chosen, played, loads, repeat or (3 if quick else 20), int(family))
    running = Running("failover", subjects.programs(chosen), samples.Samples())

    def result() -> Result:
        return running.result(
            settings={
                "scenarios": list(played),
                "subjects": [each.name for each in chosen],
                "repeat": plan.repeat,
                "loads": [f"{each.flows} flows, {each.fill} connections" if each.any else "none" for each in loads],
                "family": plan.family,
            },
            left_out=without,
            series=measuring.distributions(running.into),
        )

    with shown(running, result, output, html, as_json) as tell:
        measuring.measure(plan, running, tell)
