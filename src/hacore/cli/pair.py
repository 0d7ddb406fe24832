"""`hacore pair`."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

import click

from hacore.cli.options import json_option, settings_option
from hacore.errors import HacoreError, PlatformError

if TYPE_CHECKING:
    from hacore.control.local import LocalClient

UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


class NotAll(HacoreError):
    """A peer could not be told."""

    exit_code = 75


class Duration(click.ParamType):  # type: ignore[type-arg] # not to be subscripted in older versions of click
    """Seconds, or minutes and hours by their letter."""

    name = "DURATION"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds."""
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?(s|m|min|h|)", str(value))
        if match is None:
            self.fail('a duration is a number of seconds, or such as "15m" or "1h"', param, ctx)
        return float(match[1]) * UNITS[match[2]]


@click.group
def pair() -> None:
    """Make two nodes trust each other, and only each other.

    \b
    on fw1    hacore pair invite
    on fw2    hacore pair join TOKEN --via 10.9.0.1

    Keys and certificates are made on the way, and no key ever leaves its node. What nodes say to each other afterwards
    (configuration, services, connections) goes over TLS 1.3 with both certificates checked.
    """


@pair.command
@settings_option
@click.option("--valid-for", type=Duration(), default="15m", show_default=True, help="How long; at most 24h.")
@json_option
def invite(settings_path: str, valid_for: float, as_json: bool) -> None:
    """Print a token with which one other node can join this one, once.

    The token goes to standard output, alone; who has it can join. It holds the fingerprint of this node's certificate,
    so that the other node knows whom it speaks to.
    """
    from hacore.cli.pair_view import fingerprint
    from hacore.cli.terminal import moment

    answer = _worker(settings_path).ask("POST", "/pair/invite", {"valid_for": valid_for})
    if _printed(answer, as_json):
        return
    click.echo(answer["token"])
    click.echo(
        f"For one use, until {moment(answer['expires'])}. On the other node:\n"
        f"  hacore pair join TOKEN --via {answer['listen']}\n"
        f"The certificate of {answer['node']}: SHA-256 {fingerprint(answer['fingerprint'])}",
        err=True,
    )


@pair.command
@settings_option
@click.argument("token")
@click.option("--via", metavar="ADDRESS", required=True, help="[control] listen of the node that made the token.")
@json_option
def join(settings_path: str, token: str, via: str, as_json: bool) -> None:
    """Join the node that made TOKEN ("-": from standard input).

    Nothing is sent to a node that does not show the certificate named in the token.
    """
    from hacore.cli.pair_view import fingerprint
    from hacore.cli.terminal import moment

    if token == "-":
        token = sys.stdin.readline()
    answer = _worker(settings_path).ask("POST", "/pair/join", {"token": token, "via": via})
    if _printed(answer, as_json):
        return
    click.echo(f"{answer['node']} and {answer['name']} trust each other.")
    click.echo(f"{answer['name']}: SHA-256 {fingerprint(answer['fingerprint'])}, until {moment(answer['expires'])}")
    for sentence in answer["left"]:
        click.secho("still to be done: ", fg="yellow", nl=False, err=True)
        click.echo(sentence, err=True)


@pair.command("list")
@settings_option
@json_option
def show(settings_path: str, as_json: bool) -> None:
    """Show whom this node trusts, and who answers."""
    import msgspec

    answer = _worker(settings_path).ask("GET", "/pair")
    if _printed(answer, as_json):
        return
    from hacore.cli.pair_view import PairList, view
    from hacore.cli.terminal import console

    try:
        found = msgspec.convert(answer, PairList)
    except msgspec.ValidationError as error:
        raise PlatformError(f"the node's answer is of another version of hacore: {error}") from None
    out = console()
    for line in view(found):
        out.print(line)


@pair.command
@settings_option
@click.argument("name")
@json_option
def revoke(settings_path: str, name: str, as_json: bool) -> None:
    """Trust the node NAME no more, from this moment on.

    Its connections are closed.
    """
    answer = _worker(settings_path).ask("POST", "/pair/revoke", {"name": name})
    if _printed(answer, as_json):
        return
    click.echo(f"{answer['node']} does not trust {name} any more; connections closed: {answer['closed']}.")
    click.echo(f"{name} still trusts {answer['node']}; there: hacore pair revoke {answer['node']}", err=True)


@pair.command
@settings_option
@json_option
def renew(settings_path: str, as_json: bool) -> None:
    """Replace this node's key and certificate, on every peer.

    It is used as soon as all peers know it. One that does not answer is told when it does; that goes on by itself,
    over restarts too.

    Exit codes: 0 done, 75 some peers do not know it yet
    """
    import json

    from hacore.cli.pair_view import renewal_line

    waiting = ""
    for step in _worker(settings_path).stream("POST", "/pair/renew"):
        if as_json:
            click.echo(json.dumps(step, ensure_ascii=False))
        else:
            click.echo(renewal_line(step))
        if step["step"] == "waiting":
            waiting = step["message"]
    if waiting:
        raise NotAll(waiting)


def _worker(settings_path: str) -> LocalClient:
    from hacore.cli.target import directories
    from hacore.control.local import LocalClient

    return LocalClient(directories(settings_path).runtime_dir)


def _printed(answer: Any, as_json: bool) -> bool:
    if as_json:
        import json

        click.echo(json.dumps(answer, indent=2, ensure_ascii=False))
    return as_json
