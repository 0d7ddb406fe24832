"""`hacore lab`: the commands. What needs numpy, pyroute2 or rich is imported by the command that uses it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click

if TYPE_CHECKING:
    from hacore.lab.laboratory import Lab
    from hacore.lab.play import ScenarioRun

PROFILES = ("fast", "classic")
MEASUREMENTS = {
    "busy": "Every core is kept busy by other processes: failovers, and how late adverts are beside a bare timer.",
    "many": "Many VIPs: CPU and memory of the idle nodes, and how long it takes to move them all.",
}
ROLES = ("client", "server", "fw1", "fw2", "switch")

_name = click.option(
    "--name", default="lab", show_default=True, metavar="NAME", help="Which lab, where there are several."
)
_profile = click.option(
    "--profile",
    type=click.Choice(PROFILES),
    metavar="NAME",
    help="fast: advbase 0, advskew 1 and 2; classic: advbase 1, advskew 0 and 100.  [default: fast, or as the lab is]",
)
_preempt = click.option(
    "--preempt/--no-preempt", default=None, help="Whether the faster node takes the addresses back (the default)."
)


@click.group()
def lab() -> None:
    """Two real nodes between a client and a server, in network namespaces: break them and measure what it costs."""
    # A process with threads may not enter a user namespace, and numpy's library starts some when it is imported.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


@lab.command()
@_name
@_profile
@_preempt
def up(name: str, profile: str | None, preempt: bool | None) -> None:
    """Build a lab and start its two nodes; it stays until `down`."""
    from hacore.lab import laboratory, play, record

    directory = record.directory_of(name, record.base_directory())
    with record.locked(directory):
        laboratory.clean(directory.parent)
        made = laboratory.create(directory, profile=profile or "fast", preempt=preempt is not False, owned=False)
        try:
            play.heal(made)
            play.wait_for_master(made)
        except BaseException:
            laboratory.destroy(directory, made.record)
            raise
    click.echo(f"The lab {name!r} is up, its files and logs are in {directory}.")
    _tell_rights(made)
    click.echo("Try: hacore lab status, hacore lab exec fw1 hacore status, hacore lab run crash, hacore lab down")


@lab.command()
@_name
@click.option("--all", "every", is_flag=True, help="All labs of this user.")
def down(name: str, every: bool) -> None:
    """End a lab and remove everything it made, also what is left of one that broke."""
    from hacore.errors import NotRunning
    from hacore.lab import laboratory, record

    base = record.base_directory()
    directories = record.labs(base) if every else [record.directory_of(name, base)]
    for directory in directories:
        with record.locked(directory):
            known = record.load(directory)
            if known is None:
                raise NotRunning(f"there is no lab {directory.name!r}")
            if known.keeper is not None and known.keeper.alive():
                from hacore.lab import rights

                rights.join(known.keeper)
            laboratory.destroy(directory, known)
        click.echo(f"The lab {directory.name!r} is gone.")


@lab.command("list")
def list_() -> None:
    """Show the labs that are up, and the scenarios there are."""
    from hacore.lab import record

    for directory in record.labs(record.base_directory()):
        known = record.load(directory)
        if known is not None:
            owned = (
                ""
                if known.owner is None
                else f", of process {known.owner.pid}" + ("" if known.owner.alive() else " (gone)")
            )
            click.echo(f"lab {known.name}: profile {known.profile}{owned}")
    from hacore.lab.scenarios import SCENARIOS

    click.echo("Scenarios:")
    for scenario in SCENARIOS.values():
        click.echo(f"  {scenario.name:14} {scenario.description}")
    click.echo("Measurements:")
    for measurement, description in MEASUREMENTS.items():
        click.echo(f"  {measurement:14} {description}")


@lab.command()
@_name
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(name: str, as_json: bool) -> None:
    """Show whether the nodes of a lab run, and who holds the addresses."""
    import msgspec

    from hacore.lab import laboratory, record, tables

    found = laboratory.attach(record.directory_of(name, record.base_directory()))
    states = {node.name: node.states() for node in found.nodes.values()}
    addresses = {node: sorted(held) for node, held in found.holders().items()}
    if as_json:
        pids = {node.name: node.processes() for node in found.nodes.values()}
        shown = {"record": found.record, "processes": pids, "states": states, "addresses": addresses}
        click.echo(msgspec.json.format(msgspec.json.encode(shown)).decode())
        return
    preempt = "on" if found.record.preempt else "off"
    click.echo(f"lab {name}: profile {found.record.profile}, preempt {preempt}, files in {found.directory}")
    _tell_rights(found)
    for line in tables.holders_text(states, addresses):
        click.echo(line)


@lab.command("exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@_name
@click.argument("node", type=click.Choice(ROLES), metavar="NODE")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_(name: str, node: str, command: Sequence[str]) -> None:
    """Run a command in the network namespace of a node: client, server, fw1, fw2 or switch."""
    from hacore.errors import HacoreError
    from hacore.lab import laboratory, namespaces, record

    found = laboratory.attach(record.directory_of(name, record.base_directory()))
    environment = found.nodes[node].environment() if node in found.nodes else dict(os.environ)
    with namespaces.inside(found.paths[node]):
        try:
            os.execvpe(command[0], list(command), environment)
        except OSError as error:
            raise HacoreError(f"cannot run {command[0]}: {error.strerror}") from error


@lab.command()
@_name
@_profile
@_preempt
@click.argument("scenarios", nargs=-1, required=True, metavar="SCENARIO...")
@click.option(
    "--repeat",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    metavar="N",
    help="How often each is played.",
)
@click.option("--family", type=click.Choice(["4", "6"]), default="4", show_default=True, help="The probe's IP version.")
@click.option(
    "--seconds",
    type=click.FloatRange(2, 86400),
    metavar="SECONDS",
    help="How long busy (60) and many (20) look at the pair, each time.",
)
@click.option(
    "--flows",
    type=click.IntRange(0, 20_000),
    metavar="N",
    default=0,
    help="Keep so many TCP connections, and a few of everything else, going through source NAT, and count survivors.",
)
@click.option(
    "--fill",
    type=click.IntRange(0, 4_000_000),
    metavar="N",
    default=0,
    help="Put so many idle connections into the MASTER's table first; the other node has to have them, too.",
)
@click.option(
    "--states/--no-states", default=None, help="Whether the nodes replicate connections (with --flows or --fill: yes)."
)
@click.option(
    "--vips", type=click.IntRange(2, 508), metavar="N", default=200, show_default=True, help="How many VIPs many makes."
)
@click.option("--json", "as_json", is_flag=True, help="All figures, for programs.")
def run(
    name: str,
    profile: str | None,
    preempt: bool | None,
    scenarios: Sequence[str],
    repeat: int,
    family: str,
    seconds: float | None,
    flows: int,
    fill: int,
    states: bool | None,
    vips: int,
    as_json: bool,
) -> None:
    """Play scenarios, and show what each costs.

    SCENARIO is one of those that `hacore lab list` shows, or `all`, which is all but the measurements.

    Uses the lab NAME where it is up, else builds one for the time of the run. Ends with 1 where a scenario did not
    fail over.
    """
    from hacore.lab.scenarios import SCENARIOS

    chosen = list(SCENARIOS) if "all" in scenarios else []
    chosen += [scenario for scenario in scenarios if scenario not in ("all", *chosen)]
    unknown = [scenario for scenario in chosen if scenario not in SCENARIOS and scenario not in MEASUREMENTS]
    if unknown:
        raise click.BadParameter(
            f"{', '.join(unknown)}: choose from {', '.join([*SCENARIOS, *MEASUREMENTS])} or all", param_hint="SCENARIO"
        )
    plan = Plan(chosen, repeat, int(family), seconds, vips, flows, fill)
    replicated = bool(flows or fill) if states is None else states
    from hacore.lab import laboratory, play, record

    directory = record.directory_of(name, record.base_directory())
    if record.load(directory) is not None and directory not in laboratory.stale(directory.parent):
        with record.locked(directory):
            used = laboratory.attach(directory)
            wanted = used.record.preempt if preempt is None else preempt
            play.use_profile(used, profile or used.record.profile, wanted, replicated)
            try:
                _run(used, plan, as_json)
            finally:
                play.heal(used)
        return
    with laboratory.temporary(
        directory, profile=profile or "fast", preempt=preempt is not False, states=replicated
    ) as made:
        _run(made, plan, as_json)


class Plan(NamedTuple):
    """What `run` was asked for; seconds is None where each measurement takes its own."""

    chosen: Sequence[str]
    repeat: int
    family: int
    seconds: float | None
    vips: int
    flows: int
    fill: int


def _run(used: Lab, plan: Plan, as_json: bool) -> None:
    import msgspec
    from rich.console import Console

    from hacore.errors import HacoreError
    from hacore.lab import busy, many, play, report, tables
    from hacore.lab.scenarios import SCENARIOS

    errors = Console(stderr=True)
    runs: list[ScenarioRun] = []
    measured: dict[str, list[Any]] = {name: [] for name in MEASUREMENTS}
    with errors.status("the pair settles") as progress:
        for scenario in plan.chosen:
            for number in range(plan.repeat):
                progress.update(f"{scenario}, {number + 1} of {plan.repeat}")
                if scenario == "busy":
                    figures = busy.measure(used, seconds=plan.seconds or busy.SECONDS, family=plan.family)
                    measured[scenario].append(figures)
                elif scenario == "many":
                    seconds = plan.seconds or many.SECONDS
                    measured[scenario].append(many.measure(used, vips=plan.vips, seconds=seconds, family=plan.family))
                else:
                    runs.append(
                        play.play(used, SCENARIOS[scenario], family=plan.family, flows=plan.flows, fill=plan.fill)
                    )
    made = report.make(used, runs, family=plan.family, realtime=play.realtime(used), **measured)
    if as_json:
        click.echo(msgspec.json.encode(made).decode())
    else:
        Console(highlight=False).print(*tables.tables(made))
        for line in tables.holders_text(made.nodes, made.addresses):
            click.echo(line)
        for number, played in enumerate(runs, 1):
            if played.flows is not None:
                click.echo(f"flows of {played.scenario} ({number} of {len(runs)}): {played.flows}")
    failed = [played for played in runs if not played.failed_over]
    for played in failed:
        errors.print(f"{played.scenario}: {played.error or played.problem}", markup=False)
        for node, text in played.logs.items():
            errors.print(f"the end of the log of {node}:\n{text}", markup=False)
    if failed:
        raise HacoreError(f"{len(failed)} of {len(runs)} plays did not fail over, did not settle or lost connections")


def _tell_rights(used: Lab) -> None:
    from hacore.lab import rights

    if used.record.rights != rights.ROOT:
        click.echo("It lives in a user namespace: without real time, so figures are worse than they would be as root.")


@lab.command()
@click.option("--name", default="tour", show_default=True, metavar="NAME", help="Name of the lab that is made for it.")
def tour(name: str) -> None:
    """A guided tour: the pair, a few failures, and what they cost. Under three minutes."""
    from rich.console import Console

    from hacore.lab import record
    from hacore.lab import tour as guided

    guided.run(record.directory_of(name, record.base_directory()), Console(highlight=False))
