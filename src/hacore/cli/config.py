"""`hacore config`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hacore.cli.options import json_option, settings_option
from hacore.errors import HacoreError

if TYPE_CHECKING:
    from hacore.control.local import LocalClient

PATIENCE = 660.0  # seconds; the first comparison may have to read every file

Function = TypeVar("Function", bound=Callable[..., Any])


class Differs(HacoreError):
    """The nodes (or revisions) are not alike."""

    exit_code = 1


class NotDone(HacoreError):
    """A push or roll-back that failed; `severity` says how far it came."""

    def __init__(self, message: str, severity: int = 0) -> None:
        super().__init__(message)
        self.severity = severity


class CheckFailed(NotDone):
    """A check refused the new files; nothing was changed."""

    exit_code = 65


class ApplyFailed(NotDone):
    """An apply command failed; the previous state is back."""

    exit_code = 73


class DiskWasFull(NotDone):
    """There was no room for it; nothing was changed, or the previous state is back."""

    exit_code = 74


class SeveralFailed(HacoreError):
    """A push to several peers; ends with the exit code of the one that is worst off."""

    def __init__(self, failed: Sequence[HacoreError]) -> None:
        super().__init__("\n".join(str(each) for each in failed))
        self.exit_code = max(failed, key=lambda each: getattr(each, "severity", 0)).exit_code


#: By the result: nothing was changed, everything is put back, it could not be.
SEVERITY = {"refused": 0, "undone": 1, "broken": 2}
#: By the code of the failure.
FAILURES = {"check-failed": CheckFailed, "apply-failed": ApplyFailed, "disk-full": DiskWasFull}


def peer_option(meaning: str) -> Callable[[Function], Function]:
    """--peer."""
    return click.option("--peer", metavar="NAME", default="", help=meaning)


def restart_option(function: Function) -> Function:
    """--restart."""
    return click.option(
        "--restart",
        type=click.Choice(["changed", "all", "none"]),
        default="changed",
        show_default=True,
        help="Whose services are restarted: those of the changed sections, of all, or none.",
    )(function)


@click.group
def config() -> None:
    """Compare the configuration with the backup's, push it there.

    Each state that was applied is kept, and can be returned to.
    """


@config.command
@click.argument("sections", metavar="[SECTION]...", nargs=-1)
@settings_option
@json_option
@peer_option("One peer alone.")
def status(sections: tuple[str, ...], settings_path: str, as_json: bool, peer: str) -> None:
    """Show whether the backup has each section as it is here.

    Also who applied it, and when.

    Exit codes: 0 everything is in sync, 1 something is not, or a peer does not answer
    """
    answer = _client(settings_path).ask("GET", "/config", query=_query(sections, peer), timeout=PATIENCE)
    if as_json:
        _print_json(answer)
    else:
        from hacore.cli.config_view import status_view
        from hacore.cli.terminal import console

        screen = console()
        screen.print(status_view(answer, screen.width))
    bad = [each["name"] for each in answer["peers"] if each["problem"] or not all(each["in_sync"].values())]
    if bad:
        raise Differs(f"not in sync: {', '.join(bad)}")


@config.command
@click.argument("what", metavar="[SECTION...|N [M]]", nargs=-1)
@settings_option
@json_option
@peer_option("The one peer to compare with, or whose revisions are meant.")
def diff(what: tuple[str, ...], settings_path: str, as_json: bool, peer: str) -> None:
    """Show what a push would change, or how revisions differ.

    With names of sections (or nothing, for all): from what each peer has to what this node has. With one or two
    numbers: what revision N changed, or what turns revision N into M, on this node or, with --peer, on that one.

    Exit codes: 0 no difference, 1 there are some
    """
    client = _client(settings_path)
    numbers = [int(word) for word in what if word.isdecimal()]
    if numbers and (len(numbers) < len(what) or len(numbers) > 2):
        raise click.UsageError("give sections, or one or two numbers of revisions")
    if numbers:
        query = {"to": numbers[1] if len(numbers) > 1 else 0, "peer": peer or None}
        answer = client.ask("GET", f"/revisions/{numbers[0]}/difference", query=query, timeout=PATIENCE)
    elif peer:
        answer = client.ask("GET", "/config/difference", query=_query(what, peer), timeout=PATIENCE)
    else:
        answer = client.ask("GET", "/config/differences", query=_query(what, ""), timeout=PATIENCE)
        _diff_all(answer["peers"], as_json)
        return
    _show_difference(answer, as_json)
    differing = _differing(answer)
    if differing:
        raise Differs(f"{', '.join(differing)}: not alike")


def _diff_all(peers: list[dict[str, Any]], as_json: bool) -> None:
    """With every peer. One alone is shown, and fails, as if it had been named."""
    from hacore.control.problems import from_body

    problems = [from_body(502, {"error": each["problem"]}) for each in peers if each["problem"]]
    if len(peers) == 1 and problems:
        raise problems[0]
    if as_json and len(peers) > 1:
        _print_json({"peers": peers})
    differing = []
    for each in peers:
        if each["problem"]:
            click.echo(f"Error: {each['name']}: {each['problem']['message']}", err=True)
            continue
        if not (as_json and len(peers) > 1):
            _show_difference(each["difference"], as_json, each["name"] if len(peers) > 1 else "")
        differing += [f"{each['name']}: {name}" if len(peers) > 1 else name for name in _differing(each["difference"])]
    if differing or problems:
        raise Differs(f"{', '.join(differing)}: not alike" if differing else "not every peer could be compared with")


def _show_difference(answer: dict[str, Any], as_json: bool, peer: str = "") -> None:
    if as_json:
        _print_json(answer)
        return
    from hacore.cli.config_view import difference_view
    from hacore.cli.terminal import console

    if peer:
        click.echo(f"{peer}:")
    console().print(difference_view(answer), soft_wrap=True)


def _differing(answer: dict[str, Any]) -> list[str]:
    return [each["id"] for each in answer["sections"] if not each["in_sync"]]


@config.command
@click.argument("sections", metavar="[SECTION]...", nargs=-1)
@settings_option
@peer_option("One peer alone.")
@click.option("--dry-run", is_flag=True, help="The backup stages and checks everything, and changes nothing.")
@restart_option
@click.option("--if-master", is_flag=True, help="On a node that is not MASTER of all its VIPs: end with 0, silently.")
@click.option("--even-if-backup", is_flag=True, help="Although this node is not MASTER of all its VIPs.")
@click.option("--even-if-peer-is-master", is_flag=True, help="Although the peer is MASTER of a VIP.")
@click.option("--even-if-versions-differ", is_flag=True, help="Although the nodes run different versions of hacore.")
@click.option("--even-if-changed-there", is_flag=True, help="Although the peer changed a section by itself.")
@click.option("--json", "as_json", is_flag=True, help="Every step and the outcome, one JSON object a line.")
def push(
    sections: tuple[str, ...], settings_path: str, peer: str, dry_run: bool, restart: str, if_master: bool,
    as_json: bool, **guards: bool,
) -> None:  # fmt: skip
    """Bring sections to the backup, as one transaction.

    All that the settings list, unless some are named; to every peer, one after the other, unless one is named. The
    backup stages all files, runs every check, swaps, applies,
    restarts services and reads everything back. Whatever fails, it returns to what it had, and this says which step,
    which command and its output.

    Exit codes: 0 applied, or nothing to do; 65 a check failed, nothing was
    changed; 73 an apply command failed, the previous state is back; 74 a disk
    was full; 75 refused by a guard, or busy; 1 anything else. Of several peers, that of the one
    that is worst off: not put back, put back, refused
    """
    overrides = {
        "even_if_backup": "not-master",
        "even_if_peer_is_master": "peer-is-master",
        "even_if_versions_differ": "versions-differ",
        "even_if_changed_there": "changed-there",
    }
    order = {
        "sections": list(sections),
        "peer": peer,
        "restart": restart,
        "overrides": [code for name, code in overrides.items() if guards[name]],
        "dry_run": dry_run,
        "if_master": if_master,
    }
    _carry_out(settings_path, "/config/push", order, {}, as_json=as_json, silent=if_master)


@config.command
@settings_option
@json_option
@peer_option("A peer's history, not this node's.")
@click.option("-n", "--limit", type=click.IntRange(1), help="The latest so many.")
def history(settings_path: str, as_json: bool, peer: str, limit: int | None) -> None:
    """List the states that were applied here, or on a peer."""
    answer = _client(settings_path).ask("GET", "/revisions", query={"peer": peer or None})
    answer["revisions"] = answer["revisions"][-limit:] if limit else answer["revisions"]
    if as_json:
        _print_json(answer)
        return
    from hacore.cli.config_view import history_view
    from hacore.cli.terminal import console

    screen = console()
    screen.print(history_view(answer, screen.width))


@config.command
@click.argument("number", metavar="N", type=click.IntRange(1))
@settings_option
@json_option
@peer_option("A peer's revision, not this node's.")
def show(number: int, settings_path: str, as_json: bool, peer: str) -> None:
    """Show all files and tables of revision N."""
    answer = _client(settings_path).ask("GET", f"/revisions/{number}", query={"peer": peer or None})
    if as_json:
        _print_json(answer)
        return
    from hacore.cli.config_view import revision_view
    from hacore.cli.terminal import console

    console().print(revision_view(answer), soft_wrap=True)


@config.command("roll-back")
@click.argument("number", metavar="N", type=click.IntRange(1))
@settings_option
@peer_option("On that peer, not on this node.")
@restart_option
@click.option("--even-if-peer-is-master", is_flag=True, help="Although the peer is MASTER of a VIP.")
@click.option("--json", "as_json", is_flag=True, help="Every step and the outcome, one JSON object a line.")
def roll_back(
    number: int, settings_path: str, peer: str, restart: str, even_if_peer_is_master: bool, as_json: bool
) -> None:
    """Bring revision N back, as a push does.

    It is checked, applied and verified, and becomes a new revision.
    """
    path, query = f"/revisions/{number}/restore", {"peer": peer or None}
    order = {"restart": restart, "overrides": ["peer-is-master"] if even_if_peer_is_master else []}
    _carry_out(settings_path, path, order, query, as_json=as_json, silent=False)


@config.command
@settings_option
def recover(settings_path: str) -> None:
    """Put back the files of a push that was interrupted.

    For the boot, before anything uses the files: no node runs yet, and the one that starts later applies them, and
    restarts the services that started before. Where nothing is to be put back, this says so.

    Exit codes: 0 put back, or nothing to do; 74 something could not be put back; 75 a node runs, and does it by itself
    """
    from hacore.cli.target import directories
    from hacore.node.config_early import recover_early
    from hacore.node.settings import load

    click.echo(recover_early(directories(settings_path).state_dir, lambda: load(settings_path)))


def _client(settings_path: str) -> LocalClient:
    from hacore.cli.target import directories
    from hacore.control.local import LocalClient

    return LocalClient(directories(settings_path).runtime_dir)


def _query(sections: tuple[str, ...], peer: str) -> dict[str, Any]:
    return {"sections": ",".join(sections) or None, "peer": peer or None}


def _print_json(answer: Any) -> None:
    import json

    click.echo(json.dumps(answer, indent=2, ensure_ascii=False))


def _carry_out(
    settings_path: str, path: str, body: dict[str, Any], query: dict[str, Any], *, as_json: bool, silent: bool
) -> None:
    from hacore.cli.config_progress import follow, whole

    lines = whole(_client(settings_path).stream("POST", path, body, query=query))
    failed: list[HacoreError] = []
    if as_json:
        import json

        for line in lines:
            click.echo(json.dumps(line, ensure_ascii=False))
            failed += _failures(line)
    else:
        from hacore.cli.config_view import outcome_text

        for line in follow(lines):
            outcome = line.get("outcome")
            if outcome and not (silent and outcome["result"] == "unchanged") and (text := outcome_text(outcome)):
                click.echo(text)
            failed += _failures(line)
    if len(failed) == 1:
        raise failed[0]
    if failed:
        raise SeveralFailed(failed)


def _failures(line: dict[str, Any]) -> list[HacoreError]:
    """What a command is to end with because of this line, if anything."""
    from hacore.cli.config_view import failure_text
    from hacore.control.problems import from_body

    outcome, problem = line.get("outcome"), line.get("problem")
    if problem:
        return [from_body(502, {"error": problem}, "" if line["peer"] in problem["message"] else f"{line['peer']}: ")]
    if outcome and outcome["failure"]:
        kind = FAILURES.get(outcome["failure"]["code"], NotDone)
        return [kind(failure_text(outcome), SEVERITY.get(outcome["result"], 0))]
    return []
