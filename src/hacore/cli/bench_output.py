"""Where the result of a run goes: the terminal, a file of JSON, a page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hacore.errors import HacoreError
from hacore.linux import termination

if TYPE_CHECKING:
    from hacore.bench.result import Result
    from hacore.bench.running import Running, Told

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


def without_option(*programs: str) -> Callable[[Function], Function]:
    """Adds --without, given to the function as `without`: those of `programs` that are not to take part."""
    return click.option(
        "--without",
        type=click.Choice(programs),
        multiple=True,
        metavar="NAME",
        help=f"Leave a program out: {' or '.join(programs)}.",
    )


@contextmanager
def shown(
    running: Running, made: Callable[[], Result], output: str | None, html: str | None, as_json: bool
) -> Iterator[Told]:
    """A `with` that measures, and may tell what; afterwards what `running` has is written, whatever ended it.

    Nothing is written, also over no earlier result, where nothing was measured.

    Raises:
        Interrupted: a signal ended it.
        PartsFailed: parts of it failed.
    """
    from hacore.cli.terminal import console

    ended: BaseException | None = None
    try:
        with console(stderr=True).status("the lab is built") as progress:
            yield progress.update
    except BaseException as error:  # noqa: BLE001 - raised below, once what was measured is safe
        ended = error
    failure = running.failure(ended)
    if running.measured:
        # What took hours to measure is not lost to somebody's second Ctrl-C.
        with termination.ignored():
            try:
                write(made(), output, html, as_json)
            except OSError:
                # The terminal is gone, for which a run ends with SIGHUP; the files are written.
                if failure is None:
                    raise
    if failure is not None:
        raise failure from (ended if failure is not ended else None)


def write(result: Result, output: str | None, html: str | None, as_json: bool) -> None:
    """Everything that the options ask for; a file that cannot be written is told after the rest is done."""
    from hacore.bench.result import encode

    failures: list[HacoreError] = []
    if output is not None:
        _save(output, encode(result), failures)
    if html is not None:
        from hacore.bench.page import page

        _save(html, page(result).encode(), failures)
    if as_json:
        click.echo(encode(result).decode(), nl=False)
    else:
        from hacore.bench.terminal import report
        from hacore.cli.terminal import console

        console().print(report(result))
    if failures:
        raise failures[0]


def _save(name: str, octets: bytes, failures: list[HacoreError]) -> None:
    try:
        Path(name).write_bytes(octets)
    except OSError as error:
        failures.append(HacoreError(f"{name}: {error.strerror}"))
