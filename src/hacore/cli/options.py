"""What several commands take: the settings file, and output for programs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])


def _or_of_group(ctx: click.Context, _option: click.Parameter, value: str | None) -> str:
    from hacore.node.settings import DEFAULT_PATH

    return value or ctx.find_root().params.get("settings_path") or DEFAULT_PATH


def settings_option(function: Function) -> Function:
    """Adds --settings, given to the function as `settings_path`: the group's value or the default if it is absent."""
    return click.option(
        "-c",
        "--settings",
        "settings_path",
        metavar="FILE",
        callback=_or_of_group,
        help="The settings file.  [default: /etc/hacore/hacore.toml; env: HACORE_SETTINGS]",
    )(function)


json_option = click.option("--json", "as_json", is_flag=True, help="JSON, for programs.")
