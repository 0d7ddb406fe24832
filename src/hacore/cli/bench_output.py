"""Where the result of a run goes: the terminal, a file of JSON, a page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hacore.errors import HacoreError

if TYPE_CHECKING:
    from hacore.bench.result import Result

Function = TypeVar("Function", bound=Callable[..., Any])

_file = click.Path(dir_okay=False, writable=True)


def _place(_context: click.Context, _option: click.Parameter, name: str | None) -> str | None:
    """A file that could not be written is told before the measurement, not after it."""
    if name is not None and not Path(name).absolute().parent.is_dir():
        raise click.BadParameter(f"there is no directory {Path(name).parent}")
    return name


def output_options(function: Function) -> Function:
    """Adds --output, --html and --json, given to the function as `output`, `html` and `as_json`."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="JSON instead of the tables."),
        click.option("--html", type=_file, callback=_place, metavar="FILE", help="Write the report as a page there."),
        click.option(
            "--output",
            type=_file,
            callback=_place,
            metavar="FILE",
            help="Write JSON there, for report and compare.",
        ),
    ):
        function = option(function)
    return function


def write(result: Result, output: str | None, html: str | None, as_json: bool) -> None:
    """Everything that the options ask for."""
    from hacore.bench.result import encode

    if output is not None:
        _save(output, encode(result))
    if html is not None:
        from hacore.bench.page import page

        _save(html, page(result).encode())
    if as_json:
        click.echo(encode(result).decode(), nl=False)
        return
    from hacore.bench.terminal import report
    from hacore.cli.terminal import console

    console().print(report(result))


def _save(name: str, octets: bytes) -> None:
    try:
        Path(name).write_bytes(octets)
    except OSError as error:
        raise HacoreError(f"{name}: {error.strerror}") from error
