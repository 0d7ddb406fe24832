"""`hacore lab`: the commands. What needs numpy, pyroute2 or rich is imported by the command that uses it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from hacore.lab.laboratory import Lab
    from hacore.lab.play import ScenarioRun

PROFILES = ("fast", "classic")
ROLES = ("client", "server", "fw1", "fw2", "switch")

_name = click.option(
    "--name", default="lab", show_default=True, metavar="NAME", help="Which lab, where there are several."
)
_profile = click.option(
    "--profile",
    type=click.Choice(PROFILES),
    help="fast: advbase 0, advskew 1 and 2; classic: advbase 1, advskew 0 and 100.",
)
_preempt = click.option(
    "--preempt/--no-preempt", default=None, help="Whether the faster node takes the addresses back (the default)."
)


@click.group()
def lab() -> None:
    """Two real nodes between a client and a server, in network namespaces: break them and measure what it costs."""


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
    """The labs that are up, and the scenarios there are."""
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


@lab.command()
@_name
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(name: str, as_json: bool) -> None:
    """Whether the nodes of a lab run, and who holds the addresses."""
    import msgspec

    from hacore.lab import laboratory, record, report

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
    for line in report.holders_text(states, addresses):
        click.echo(line)


@lab.command("exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@_name
@click.argument("node", type=click.Choice(ROLES))
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_(name: str, node: str, command: Sequence[str]) -> None:
    """Run COMMAND in the network namespace of NODE (client, server, fw1, fw2 or switch)."""
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
@click.option("--repeat", type=click.IntRange(1, 1000), default=1, show_default=True, help="How often each is played.")
@click.option("--family", type=click.Choice(["4", "6"]), default="4", show_default=True, help="The probe's IP version.")
@click.option("--json", "as_json", is_flag=True, help="All figures, for programs.")
def run(
    name: str,
    profile: str | None,
    preempt: bool | None,
    scenarios: Sequence[str],
    repeat: int,
    family: str,
    as_json: bool,
) -> None:
    """Play each SCENARIO (see `hacore lab list`; `all` for all) and show what it cost.

    Uses the lab NAME where it is up, else builds one for the time of the run. Ends with 1 where a scenario did not
    fail over.
    """
    from hacore.lab.scenarios import SCENARIOS

    chosen = list(SCENARIOS) if "all" in scenarios else list(scenarios)
    unknown = [scenario for scenario in chosen if scenario not in SCENARIOS]
    if unknown:
        raise click.BadParameter(
            f"{', '.join(unknown)}: choose from {', '.join(SCENARIOS)} or all", param_hint="SCENARIO"
        )
    from hacore.lab import laboratory, play, record

    directory = record.directory_of(name, record.base_directory())
    if record.load(directory) is not None and directory not in laboratory.stale(directory.parent):
        with record.locked(directory):
            used = laboratory.attach(directory)
            play.use_profile(used, profile or used.record.profile, used.record.preempt if preempt is None else preempt)
            try:
                _run(used, chosen, repeat, int(family), as_json)
            finally:
                play.heal(used)
        return
    with laboratory.temporary(directory, profile=profile or "fast", preempt=preempt is not False) as made:
        _run(made, chosen, repeat, int(family), as_json)


def _run(used: Lab, chosen: Sequence[str], repeat: int, family: int, as_json: bool) -> None:
    import msgspec
    from rich.console import Console

    from hacore.errors import HacoreError
    from hacore.lab import play, report
    from hacore.lab.scenarios import SCENARIOS

    errors = Console(stderr=True)
    runs: list[ScenarioRun] = []
    with errors.status("the pair settles") as progress:
        for scenario in chosen:
            for number in range(repeat):
                progress.update(f"{scenario}, {number + 1} of {repeat}")
                runs.append(play.play(used, SCENARIOS[scenario], family=family))
    made = report.make(used, runs, family=family, realtime=play.realtime(used))
    if as_json:
        click.echo(msgspec.json.encode(made).decode())
    else:
        Console().print(report.table(made))
        for line in report.holders_text(made.nodes, made.addresses):
            click.echo(line)
    failed = [played for played in runs if not played.failed_over]
    for played in failed:
        errors.print(f"{played.scenario}: {played.error or 'did not fail over'}", markup=False)
        for node, text in played.logs.items():
            errors.print(f"the end of the log of {node}:\n{text}", markup=False)
    if failed:
        raise HacoreError(f"{len(failed)} of {len(runs)} plays did not fail over or did not settle")


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

    guided.run(record.directory_of(name, record.base_directory()), Console())
