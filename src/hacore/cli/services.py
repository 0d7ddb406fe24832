"""`hacore services`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

from hacore.cli.options import json_option, settings_option
from hacore.errors import HacoreError, PlatformError

if TYPE_CHECKING:
    from hacore.control.local import LocalClient

ACTION_TIMEOUT = 330.0  # seconds: longer than the node itself waits

T = TypeVar("T")

peer_option = click.option("--peer", metavar="NAME", default="", help="On this peer instead of here.")
THE_ONLY = "*"
#: For a command without an argument of its own, which could be taken for the name.
any_peer_option = click.option(
    "--peer", metavar="[NAME]", default="", is_flag=False, flag_value=THE_ONLY,
    help="On this peer, or the only one, instead of here.",
)  # fmt: skip


class ActionFailed(HacoreError):
    """A service did not do what it was told, and the node says why."""

    exit_code = 1


@click.group
def services() -> None:
    """Show, start, stop and restart services.

    Only those that stand in the settings, here or on a peer.
    """


@services.command("list")
@settings_option
@any_peer_option
@json_option
def list_(settings_path: str, peer: str, as_json: bool) -> None:
    """Show the services, and why those that failed did.

    With the time since when each is as it is, and the last lines of its journal.
    """
    client = _client(settings_path)
    _show(client, _only_peer(client) if peer == THE_ONLY else peer, as_json)


@services.command
@click.argument("name")
@settings_option
@peer_option
def start(name: str, settings_path: str, peer: str) -> None:
    """Start the service NAME and wait until it runs."""
    _act(settings_path, name, "start", peer)


@services.command
@click.argument("name")
@settings_option
@peer_option
def stop(name: str, settings_path: str, peer: str) -> None:
    """Stop the service NAME and wait until it has ended."""
    _act(settings_path, name, "stop", peer)


@services.command
@click.argument("name")
@settings_option
@peer_option
def restart(name: str, settings_path: str, peer: str) -> None:
    """Restart the service NAME and wait until it runs."""
    _act(settings_path, name, "restart", peer)


def _client(settings_path: str) -> LocalClient:
    from hacore.cli.target import directories
    from hacore.control.local import LocalClient

    return LocalClient(directories(settings_path).runtime_dir)


def _show(client: LocalClient, peer: str, as_json: bool) -> None:
    answer = client.ask("GET", "/services", query={"peer": peer})
    if as_json:
        import json

        click.echo(json.dumps(answer, indent=2, ensure_ascii=False))
        return
    from hacore.cli.services_view import Listed, view
    from hacore.cli.terminal import console

    console().print(view(_as(answer, Listed)))


def _act(settings_path: str, name: str, action: str, peer: str) -> None:
    from urllib.parse import quote

    from hacore.cli.services_view import outcome_line
    from hacore.services.service import Outcome

    answer = _client(settings_path).ask(
        "POST", f"/services/{quote(name, safe='')}/{action}", query={"peer": peer}, timeout=ACTION_TIMEOUT
    )
    outcome = _as(answer, Outcome)
    if not outcome.ok:
        raise ActionFailed("\n".join([outcome_line(outcome), *outcome.output.splitlines()]))
    click.echo(outcome_line(outcome))


def _as(answer: Any, kind: type[T]) -> T:
    import msgspec

    try:
        return msgspec.convert(answer, kind)
    except msgspec.ValidationError as error:
        raise PlatformError(f"the node's answer is of another version of hacore: {error}") from None


@services.command("restart-all")
@settings_option
@peer_option
@click.option("--sync", is_flag=True, help="On the peer: push the configuration to it first; go on if that succeeds.")
def restart_all(settings_path: str, peer: str, sync: bool) -> None:
    """Restart all services, in the order of the settings.

    One after the other; one that fails does not keep the others from their turn. With --sync the configuration is
    pushed to the peer first, then all its services are restarted, and their list is read again afterwards; --peer is
    needed only where there are several.

    Exit codes: 0 all of them run again, 1 some failed, those of hacore config push where that failed
    """
    from hacore.cli.services_view import outcome_line
    from hacore.services.service import Outcome

    client = _client(settings_path)
    if sync:
        peer = peer or _only_peer(client)
        from hacore.cli.config import push

        click.get_current_context().invoke(push, settings_path=settings_path, peer=peer, restart="none")
    failed = 0
    for answer in client.stream("POST", "/services/restart-all", query={"peer": peer}):
        outcome = _as(answer, Outcome)
        click.echo(outcome_line(outcome), err=not outcome.ok)
        if not outcome.ok:
            failed += 1
            for line in outcome.output.splitlines():
                click.echo(f"  {line}", err=True)
    if sync:
        _show(client, peer, as_json=False)
    if failed:
        raise ActionFailed(f"{failed} service{'s' * (failed != 1)} failed")


def _only_peer(client: LocalClient) -> str:
    names = [each["name"] for each in client.ask("GET", "/peers")]
    if len(names) != 1:
        raise click.UsageError(f"say which with --peer NAME: the peers of this node are {', '.join(names) or 'none'}")
    return str(names[0])
