"""`hacore capture`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hacore.cli.options import json_option

if TYPE_CHECKING:
    from hacore._fast.advert import AdvertKey
    from hacore.cli.capture_adverts import Advert, Reader
    from hacore.cli.capture_source import Captured
    from hacore.cli.capture_timeline import Happening, Timeline


@click.command
@click.argument("file", type=click.Path(path_type=Path), required=False, metavar="[FILE.pcap]")
@click.option("-i", "--interface", metavar="IF", help="Listen here instead, until Ctrl-C.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="With --interface: stop after so long.")
@click.option("-c", "--settings", "settings_path", metavar="FILE", help="Verify with the keys of these settings.")
@click.option("--password", help="Verify with this password; others can see it in `ps`.")
@click.option("--password-file", type=click.Path(path_type=Path), metavar="FILE", help="The password, in a file.")
@click.option("--vhid", type=click.IntRange(1, 255), help="The VHID that the password is for.")
@click.option("--address", "addresses", multiple=True, metavar="ADDR", help="A virtual address of it; repeat for each.")
@json_option
@click.pass_context
def capture(
    ctx: click.Context,
    file: Path | None,
    interface: str | None,
    seconds: float | None,
    settings_path: str | None,
    password: str | None,
    password_file: Path | None,
    vhid: int | None,
    addresses: tuple[str, ...],
    as_json: bool,
) -> None:
    """Explain the adverts in a capture or on an interface.

    Shows who advertised what and whether it verifies, and the election as a timeline: who was MASTER when, who bowed
    out, fell silent or was preempted, and when there were two masters at once.

    The keys come from --settings (by default /etc/hacore/hacore.toml, where it is there), or from --vhid with a
    password and every address of that VHID. What has the wrong key takes no part in the timeline.
    """
    if (file is None) == (interface is None):
        raise click.UsageError("give a capture file, or an interface with --interface")
    if seconds is not None and interface is None:
        raise click.UsageError("--seconds goes with --interface")
    from hacore.cli.capture_adverts import Reader
    from hacore.cli.capture_source import from_file, from_interface

    given = settings_path or ctx.find_root().params.get("settings_path")
    reader = Reader(_keys(given, password, password_file, vhid, addresses))
    if file is not None:
        _explain(reader, list(_adverts(reader, from_file(file))), as_json)
        return
    assert interface is not None
    _follow(reader, interface, from_interface(interface, seconds), as_json)


def _keys(
    settings_path: str | None,
    password: str | None,
    password_file: Path | None,
    vhid: int | None,
    addresses: tuple[str, ...],
) -> list[AdvertKey]:
    from hacore._fast.advert import AdvertKey

    if password is not None or password_file is not None or vhid is not None or addresses:
        if password is not None and password_file is not None:
            raise click.UsageError("give --password or --password-file, not both")
        secret = _secret(password, password_file)
        if vhid is None or secret is None:
            raise click.UsageError("a key needs --vhid and a password (--password-file or --password)")
        try:
            return [AdvertKey(secret, vhid, [address.partition("/")[0] for address in addresses])]
        except ValueError as error:
            raise click.UsageError(f"these make no key: {error}") from None
    from hacore.node.settings import DEFAULT_PATH, examine, load

    if settings_path is not None:
        settings = load(settings_path)
    else:
        found = examine(DEFAULT_PATH).settings if Path(DEFAULT_PATH).exists() else None
        if found is None:
            click.echo(
                "no keys, so no advert is verified (--settings, or --vhid, --password-file, --address)", err=True
            )
            return []
        settings = found
    return [AdvertKey(bytes(vip.password), vip.vhid, [one.ip for one in vip.addresses]) for vip in settings.vips]


def _secret(password: str | None, password_file: Path | None) -> bytes | None:
    if password_file is None:
        return None if password is None else password.encode()
    try:
        return password_file.read_bytes().removesuffix(b"\n").removesuffix(b"\r")
    except OSError as error:
        raise click.BadParameter(f"{password_file}: {error.strerror}", param_hint="--password-file") from None


def _adverts(reader: Reader, captured: Iterator[Captured]) -> Iterator[Advert]:
    for time, frame in captured:
        advert = reader.read(time, frame)
        if advert is not None:
            yield advert


def _explain(reader: Reader, adverts: list[Advert], as_json: bool) -> None:
    """Everything about a whole capture."""
    from hacore.cli.capture_timeline import Timeline
    from hacore.cli.capture_view import happening_line
    from hacore.cli.terminal import console, duration, moment

    adverts.sort(key=lambda advert: advert.time)
    timeline = Timeline()
    for advert in adverts:
        if advert.counts:
            timeline.receive(advert)
    if as_json:
        _print_json(reader, adverts, timeline)
        return
    out = console()
    if adverts:
        begin = adverts[0].time
        families = len({advert.family for advert in adverts}) > 1
        span = duration(adverts[-1].time - begin)
        out.print(
            f"{len(adverts)} advert{'s' * (len(adverts) != 1)} in {span}, from {moment(begin, fraction=True)} on\n"
        )
        _print_sources(adverts)
        out.print("\ntimeline, in seconds from there", style="dim")
        for happening in sorted(timeline.happenings, key=lambda one: one.time):
            out.print(happening_line(happening, begin, out.width, families=families))
        _print_end(timeline, begin, families)
    else:
        out.print("no adverts")
    _print_unreadable(reader)


def _follow(reader: Reader, interface: str, captured: Iterator[Captured | None], as_json: bool) -> None:
    """What happens on an interface, as it happens; the sources at the end."""
    import time

    from hacore.cli.capture_timeline import Timeline
    from hacore.cli.capture_view import happening_line
    from hacore.cli.terminal import console, moment

    out = console()
    begin = time.time()
    timeline = Timeline()
    adverts: list[Advert] = []
    if not as_json:
        out.print(f"listening on {interface} since {moment(begin, fraction=True)}; Ctrl-C ends it", style="dim")
    try:
        for item in captured:
            news: list[Happening] = []
            advert = None if item is None else reader.read(item.time, item.frame)
            if advert is not None:
                adverts.append(advert)
                news = timeline.receive(advert) if advert.counts else []
            elif item is None:
                news = timeline.advance(time.time())
            for happening in [] if as_json else news:
                out.print(happening_line(happening, begin, out.width, families=True))
    except KeyboardInterrupt:
        pass
    if as_json:
        _print_json(reader, adverts, timeline)
        return
    out.print()
    if adverts:
        _print_sources(adverts)
        _print_end(timeline, begin, families=True)
    else:
        out.print("no adverts")
    _print_unreadable(reader)


def _print_sources(adverts: list[Advert]) -> None:
    from hacore.cli.capture_view import source_list, sources_of
    from hacore.cli.terminal import console

    out = console()
    for part in source_list(sources_of(adverts), out.width):
        out.print(part)


def _print_end(timeline: Timeline, begin: float, families: bool) -> None:
    if not timeline.happenings:
        click.echo("no advert took part in an election")
        return
    from hacore.cli.capture_view import overlap_lines
    from hacore.cli.terminal import console

    out = console()
    for vhid, family, hold in timeline.masters():
        which = f"vhid {vhid}{f' IPv{family}' if families else ''}"
        out.print(f"{'at the end':>11}  {which}  {hold.source} is MASTER", style="green")
    out.print()
    for line in overlap_lines(timeline.overlaps, begin, out.width):
        out.print(line)


def _print_unreadable(reader: Reader) -> None:
    from hacore.cli.capture_adverts import FAULTS
    from hacore.cli.terminal import console

    for rung, count in sorted(reader.unreadable.items()):
        console().print(f"{count} frames of protocol 112 unreadable: {FAULTS.get(rung, rung)}", style="yellow")


def _print_json(reader: Reader, adverts: list[Advert], timeline: Timeline) -> None:
    import json

    from msgspec import to_builtins

    whole = {
        "adverts": to_builtins(adverts),
        "timeline": to_builtins(sorted(timeline.happenings, key=lambda one: one.time)),
        "overlaps": to_builtins(timeline.overlaps),
        "masters": [
            {"vhid": vhid, "family": family, "source": hold.source} for vhid, family, hold in timeline.masters()
        ],
        "unreadable": dict(reader.unreadable),
    }
    click.echo(json.dumps(whole, indent=2))
