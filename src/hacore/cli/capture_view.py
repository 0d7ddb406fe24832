"""What `hacore capture` looks like."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from statistics import median

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from hacore.cli.capture_adverts import FAULTS, UNCHECKED, VALID, Advert
from hacore.cli.capture_timeline import Happening, Overlap
from hacore.cli.terminal import duration, folded

#: Columns from which the sources are a table.
TABLE_COLUMNS = 100
#: Changes of advbase and advskew that are shown of one source; the timeline has them all.
CARRIED = 4


class Source:
    """What one source said for one VHID."""

    def __init__(self, advert: Advert) -> None:
        self.source = advert.source
        self.family = advert.family
        self.vhid = advert.vhid
        self.destination = advert.destination
        self.macs: set[str] = set()
        self.forms: set[str] = set()
        self.verdicts: Counter[str] = Counter()
        self.carried: list[str] = []
        self._times: list[float] = []

    def add(self, advert: Advert) -> None:
        """Takes one advert."""
        self.macs.add(advert.source_mac)
        self.forms |= {advert.form} - {""}
        self.verdicts[advert.verdict] += 1
        carried = "bow-out" if advert.bows_out else f"{advert.advbase}/{advert.advskew}"
        if not self.carried or self.carried[-1] != carried:
            self.carried.append(carried)
        self._times.append(advert.time)

    @property
    def adverts(self) -> int:
        """How many were seen."""
        return len(self._times)

    @property
    def interval(self) -> str:
        """The median time between two, and the longest."""
        gaps = [later - earlier for earlier, later in zip(self._times, self._times[1:], strict=False)]
        return f"every {duration(median(gaps))}, at most {duration(max(gaps))}" if gaps else "once"

    @property
    def history(self) -> str:
        """What it carried in the course of time."""
        shown = self.carried if len(self.carried) <= CARRIED else ["...", *self.carried[-CARRIED:]]
        return " > ".join(shown)

    def verification(self) -> Text:
        """Whether its adverts verify, in words."""
        text = Text()
        for verdict, count in self.verdicts.most_common():
            if text:
                text.append("; ")
            number = "" if len(self.verdicts) == 1 else f"{count}: "
            if verdict == VALID:
                forms = " and ".join(sorted(self.forms - {"freebsd"}))
                text.append(f"{number}verified{f' ({forms} form)' if forms else ''}", style="green")
            elif verdict == UNCHECKED:
                text.append(f"{number}no key for this VHID", style="yellow")
            else:
                text.append(f"{number}{FAULTS.get(verdict, verdict)}", style="bold red")
        return text


def sources_of(adverts: Iterable[Advert]) -> list[Source]:
    """One for each source and VHID, in order."""
    found: dict[tuple[int, int, str], Source] = {}
    for advert in adverts:
        key = (advert.vhid, advert.family, advert.source)
        if key not in found:
            found[key] = Source(advert)
        found[key].add(advert)
    return [found[key] for key in sorted(found)]


def source_list(sources: list[Source], width: int) -> Iterator[RenderableType]:
    """Who advertised what, as a table or, on a narrow terminal, in lines."""
    if width < TABLE_COLUMNS:
        for source in sources:
            head = Text(f"vhid {source.vhid}  {source.source}", style="bold")
            lines = Text(f"{source.adverts} adverts to {source.destination}, {source.interval}\n")
            lines.append(f"from {', '.join(sorted(source.macs))}\nadvbase/advskew {source.history}\n")
            lines.append_text(source.verification())
            yield head
            yield folded(lines, width)
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("VHID", "SOURCE", "TO", "ADVERTS", "BASE/SKEW", "VERIFICATION"):
        table.add_column(heading, overflow="fold", justify="right" if heading == "VHID" else "left")
    for source in sources:
        table.add_row(
            str(source.vhid),
            Text(f"{source.source}\n") + Text(", ".join(sorted(source.macs)), style="dim"),
            source.destination,
            Text(f"{source.adverts}\n") + Text(source.interval, style="dim"),
            source.history,
            source.verification(),
        )
    yield table


def happening_line(happening: Happening, begin: float, width: int, *, families: bool) -> Text:
    """One entry of the timeline: seconds after `begin`, and with `families` which of the two it is about."""
    style = {"master": "bold green", "beside": "bold red", "end": "yellow"}.get(happening.kind, "")
    line = Text.assemble((f"{happening.time - begin:+11.6f}  ", "dim"), f"vhid {happening.vhid}")
    line.append(f" IPv{happening.family}  " if families else "  ")
    return folded(Text(f"{happening.source} {happening.text}", style=style), width, line)


def overlap_lines(overlaps: list[Overlap], begin: float, width: int) -> Iterator[Text]:
    """When two advertised at once, or that they never did."""
    if not overlaps:
        yield Text("never two masters of one VHID at once", style="green")
    for overlap in overlaps:
        both = " and ".join(overlap.sources)
        length = overlap.end - overlap.begin
        how_long = f"for {duration(length)}" if length > 0 else "for one advert"
        text = f"two masters of vhid {overlap.vhid} (IPv{overlap.family}) at once {how_long}, "
        line = Text(f"{text}from {overlap.begin - begin:+.6f}: {both}", style="bold red")
        yield folded(line, width, Text("! ", style="bold red"))
