"""`hacore states`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hacore.cli.options import json_option, settings_option
from hacore.errors import HacoreError, PlatformError

if TYPE_CHECKING:
    from hacore.node.states_snapshot import StatesStatus

BULK_PATIENCE = 600.0  # seconds until a bulk update that does not end is left alone
LOOK_INTERVAL = 0.2
SETTLE = 1.0  # seconds in which what is in flight arrives
SHOWN_DIFFERENCES = 100


class Differs(HacoreError):
    """The kernels do not hold the same connections and expectations."""

    exit_code = 1


@click.group
def states() -> None:
    """Show and compare the connections that the nodes share."""


@states.command
@settings_option
@json_option
def show(settings_path: str, as_json: bool) -> None:
    """Show the streams to and from each peer, the table and the kernel's side."""
    answer = _ask(settings_path, "show")
    if as_json:
        import json

        click.echo(json.dumps(answer, indent=2, ensure_ascii=False))
        return
    from hacore.cli.states_view import view
    from hacore.cli.terminal import console

    console().print(view(_status(answer)))


@states.command("list")
@settings_option
@json_option
@click.option("--protocol", metavar="NAME", help="tcp, udp, icmp, ... or a number.")
@click.option("--address", metavar="ADDRESS", help="An address or a network, at any end.")
@click.option("--port", type=click.IntRange(0, 65535), help="At any end.")
@click.option("--zone", type=click.IntRange(0, 65535), help="The conntrack zone.")
@click.option("--state", metavar="STATE", help="Of TCP or SCTP, such as ESTABLISHED.")
@click.option("--counters", is_flag=True, help="With packets, bytes and start, as far as this kernel counts them.")
@click.option("--limit", type=click.IntRange(1), help="At most so many.")
def list_(settings_path: str, as_json: bool, limit: int | None, counters: bool, **filters: Any) -> None:
    """List the connections in this node's table, those of the peers too."""
    import json

    from hacore.cli.states_view import line

    wanted = {name: value for name, value in filters.items() if value is not None}
    if "state" in wanted:
        wanted["state"] = wanted["state"].upper()
    if counters:
        wanted["counters"] = True
    cursor: int | None = None
    left = limit if limit is not None else -1
    while left and cursor != 0:
        page = _ask(settings_path, "list", cursor=cursor, **wanted)
        cursor = page["cursor"]
        for row in page["states"][: left if left > 0 else None]:
            click.echo(json.dumps(row) if as_json else line(row))
            left -= 1


@states.command
@click.argument("peer", required=False)
@settings_option
def bulk(peer: str | None, settings_path: str) -> None:
    """Send everything anew to PEER (or to all) and ask for everything that it has."""
    import time

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from hacore.cli.terminal import console

    before = {
        (known.name, way): stream
        for known in _status(_ask(settings_path, "show")).peers
        for way, stream in (("sending", known.sending), ("receiving", known.receiving))
    }
    ordered = _ask(settings_path, "bulk", **({"peer": peer} if peer else {}))["peers"]
    deadline = time.monotonic() + BULK_PATIENCE
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    done: dict[tuple[str, str], int] = {}
    with Progress(*columns, console=console()) as progress:
        tasks = {
            (name, way): progress.add_task(f"{'to' if way == 'sending' else 'from'} {name}", total=None)
            for name in ordered
            for way in ("sending", "receiving")
        }
        while len(done) < len(tasks):
            time.sleep(LOOK_INTERVAL)
            for known in _status(_ask(settings_path, "show")).peers:
                for way, stream in (("sending", known.sending), ("receiving", known.receiving)):
                    task = tasks.get((known.name, way))
                    if task is None:
                        continue
                    if stream.phase == "down":
                        raise PlatformError(
                            f"the stream {'to' if way == 'sending' else 'from'} {known.name} ended: {stream.reason}"
                        )
                    progress.update(task, completed=stream.bulk_rows, total=stream.bulk_total or None)
                    was = before[known.name, way]
                    # One that was still about to be agreed on sends what the other side lacks without being told to.
                    begun = stream.bulk_updates > was.bulk_updates or was.phase == "hello"
                    if begun and stream.phase == "stream":
                        done[known.name, way] = stream.bulk_rows
                        progress.update(task, completed=stream.bulk_rows, total=max(stream.bulk_rows, 1))
            if time.monotonic() > deadline:
                raise PlatformError(f"not done within {BULK_PATIENCE:g} s; it goes on: hacore states show")
    for (name, way), rows in sorted(done.items()):
        click.echo(f"{'to' if way == 'sending' else 'from'} {name}: {rows} states")


@states.command
@click.argument("peer", required=False)
@settings_option
@json_option
@click.option(
    "--settle",
    type=click.FloatRange(0, 60),
    default=SETTLE,
    show_default=True,
    help="Seconds in which what is in flight arrives.",
)
def diff(peer: str | None, settings_path: str, as_json: bool, settle: float) -> None:
    """Compare this node's kernel with PEER's (or all peers'), connection by connection, with what their helpers
    expect.

    What differs twice, some seconds apart, is shown: the rest was in flight. Connections that are not replicated are
    left out, as are timeouts.

    Exit codes: 0 they are alike, 1 they differ
    """
    from hacore.cli.states_diff import compare, counted

    found = compare(settings_path, peer, settle)
    if as_json:
        import json

        click.echo(json.dumps({name: [each.as_dict() for each in differences] for name, differences in found.items()}))
    else:
        for name, differences in found.items():
            for each in differences[:SHOWN_DIFFERENCES]:
                click.echo(f"{name}: {each}")
            if len(differences) > SHOWN_DIFFERENCES:
                click.echo(f"{name}: and {len(differences) - SHOWN_DIFFERENCES} more")
    everything = [each for differences in found.values() for each in differences]
    if everything:
        raise Differs(f"{counted(everything)} differ{'s' * (len(everything) == 1)}")
    if not as_json:
        click.echo(f"no difference to {', '.join(found)}")


@states.command("make-test-certificates")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
def make_test_certificates(directory: Path, names: tuple[str, ...]) -> None:
    """Make a certificate for each node NAME in DIRECTORY/NAME, and a file of those that it is to trust.

    For trying things out: put node.crt, node.key and peers.pem where [control] says (state_dir/tls).
    """
    from hacore.control.trial_certificates import make_test_certificates
    from hacore.node.settings_values import name as checked

    for name in names:
        try:
            checked(name)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="NAME") from None
    if len(set(names)) < len(names):
        raise click.BadParameter("every node needs its own", param_hint="NAME")
    for path in make_test_certificates(directory, names):
        click.echo(path)


def _ask(settings_path: str, action: str, **arguments: Any) -> dict[str, Any]:
    from hacore.cli.target import client

    return client(settings_path).request("states", action=action, **arguments)


def _status(answer: dict[str, Any]) -> StatesStatus:
    import msgspec

    from hacore.node.states_snapshot import StatesStatus

    try:
        return msgspec.convert(answer, StatesStatus)
    except msgspec.ValidationError as error:
        raise PlatformError(f"the node's answer is of another version of hacore: {error}") from None
