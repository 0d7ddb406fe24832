"""`python -m hacore.node.prepare`: makes or takes away the devices of all VIPs, and exits.

A process of its own, so that what it imports is not carried by those that stay. One JSON object on standard input:

    {"runtime_dir": "/run/hacore", "action": "prepare" | "remove",
     "gate": "adverts" | "static" | "none",                       (optional: forces the mode)
     "vips": [{"name", "interface", "vhid", "virtual_mac", "addresses": ["10.1.0.1/16", ...], "dead_time": seconds,
               "held": false}, ...],
     "untracked": [{"address", "port", "local": true}, ...]}      (optional: TCP ports, see ruleset.Untracked)

`held`: this node is MASTER of it now; its addresses and its lease are left as they are. More keys are ignored.
One object on standard output:

    {"vips": [{"name", "device", "ifindex", "parent_ifindex", "mac", "parent_mac",
               "gate": "adverts" | "static" | "none", "noprefixroute": [true, ...],
               "addresses": [{"address", "prefix_length", "noprefixroute"}, ...]}
              or {"name", "error": {"type", "message", "exit_code"}}, ...],
     "warnings": ["...", ...]}

or {"error": {...}} where nothing could be done at all. The exit code is 0, or that of the first error.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from hacore.errors import HacoreError, LocalProtocolError, PlatformError


def describe_error(error: HacoreError) -> dict[str, Any]:
    """An error as it goes over a pipe or a socket."""
    return {"type": type(error).__name__, "message": str(error), "exit_code": error.exit_code}


def run(request: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """Does what `request` asks; the answer and the exit code. Raises HacoreError for what concerns all VIPs."""
    from hacore.linux import devices, ruleset

    try:
        runtime_dir = Path(request["runtime_dir"])
        action = request["action"]
        mode = request.get("gate")
        vips = [
            devices.DesiredVip(
                name=vip["name"],
                interface=vip["interface"],
                vhid=int(vip["vhid"]),
                virtual_mac=bool(vip["virtual_mac"]),
                addresses=tuple(vip["addresses"]),
                dead_time=float(vip["dead_time"]),
                held=bool(vip.get("held", False)),
            )
            for vip in request.get("vips", [])
        ]
        untracked = [
            ruleset.Untracked(str(place["address"]), int(place["port"]), bool(place["local"]))
            for place in request.get("untracked", [])
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise LocalProtocolError(f"the request is malformed: {error!r}") from error
    if action == "remove":
        return {"vips": [], "warnings": devices.remove(runtime_dir)}, 0
    if action != "prepare" or mode not in (None, "adverts", "static", "none"):
        raise LocalProtocolError(f"the request is malformed: action {action!r}, gate {mode!r}")
    outcome = devices.prepare(vips, runtime_dir, mode, untracked)
    answers: list[dict[str, Any]] = []
    exit_code = 0
    for vip in vips:
        made = outcome.vips[vip.name]
        if isinstance(made, HacoreError):
            answers.append({"name": vip.name, "error": describe_error(made)})
            exit_code = exit_code or made.exit_code
        else:
            answer = made._asdict()
            answer["addresses"] = [address._asdict() for address in made.addresses]
            answer["noprefixroute"] = [address.noprefixroute for address in made.addresses]
            answers.append(answer)
    return {"vips": answers, "warnings": outcome.warnings}, exit_code


def main() -> int:
    """Standard input to standard output; returns the exit code."""
    try:
        try:
            request = json.load(sys.stdin)
        except ValueError as error:
            raise LocalProtocolError(f"the request is not JSON: {error}") from error
        answer, exit_code = run(request)
    except HacoreError as error:
        answer, exit_code = {"error": describe_error(error)}, error.exit_code
    except Exception as error:  # noqa: BLE001 - the process boundary: nothing may leave it but an answer
        # Whatever libraries raise has to reach the supervisor as an answer that it can show.
        failure = PlatformError(f"{type(error).__name__}: {error}")
        answer, exit_code = {"error": describe_error(failure)}, failure.exit_code
    sys.stdout.write(json.dumps(answer) + "\n")
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
