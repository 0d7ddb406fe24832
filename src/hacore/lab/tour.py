"""The guided tour: what the lab is, a few failures in it, and a table of what they cost. Takes two to three minutes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from hacore.errors import HacoreError
from hacore.lab import laboratory, nodes, play, report, tables, topology
from hacore.lab.laboratory import Lab
from hacore.lab.observers import Recording
from hacore.lab.scenarios import SCENARIOS

STOPS = (
    ("fast", "stop", "A planned stop. The MASTER bows out and forwards on until its successor is there."),
    ("fast", "maintenance", "Maintenance and back, as before an upgrade."),
    ("fast", "crash", "Every process of the MASTER is killed at once. Nobody says goodbye; its interfaces stay up."),
    (
        "fast",
        "hang",
        "Every process of the MASTER is frozen for 3.5 s. The kernel has to take its traffic and its addresses away.",
    ),
    ("fast", "power", "The MASTER loses all its cables at once and is dead."),
    ("classic", "crash", "The same crash with the intervals of classic CARP: an advert a second."),
)
"""Profile, scenario, and what is said before it."""

_PICTURE = """\
              10.1.0.1  2001:db8:1::1                      10.2.0.1  2001:db8:2::1
                           │                                        │
                           │         ┌──── {fw1} ────┐         │
┌────────┐   ┌────────┐    ├─────────┤ .11  advskew {one:<3}  .11 ├─────────┤    ┌────────┐   ┌────────┐
│ client ├───┤ br-lan ├────┤         └─────────┬──────────┘         ├────┤ br-wan ├───┤ server │
│  .100  │   └────────┘    │                   │ br-sync            │    └────────┘   │  .100  │
└────────┘                 │         ┌─────────┴──────────┐         │                 └────────┘
one datagram               ├─────────┤ .12  advskew {two:<3}  .12 ├─────────┤               sends each back
a millisecond              │         └──── {fw2} ────┘         │
"""


def picture(profile: nodes.Profile, holder: str | None) -> Text:
    """The lab, with the node that holds the addresses marked."""
    labels = {name: f"{name} MASTER" if name == holder else f"{name} BACKUP" for name in topology.NODES}
    drawn = Text(_PICTURE.format(**labels, one=profile.advskews[0], two=profile.advskews[1]))
    drawn.highlight_words([label for label in labels.values() if label.endswith("MASTER")], "bold green")
    drawn.highlight_words([label for label in labels.values() if label.endswith("BACKUP")], "yellow")
    return drawn


def _meter(recording: Recording) -> Text:
    held = ", ".join(f"{name} holds {len(addresses)}" for name, addresses in recording.held.items())
    counts = recording.counts
    return Text(
        f"  {counts['sent']:6} datagrams sent, {counts['received']:6} came back; addresses: {held}", style="cyan"
    )


def _show(console: Console, run: play.ScenarioRun) -> None:
    for phase in run.phases:
        lines = Table.grid(padding=(0, 2))
        lines.add_column(justify="right", style="cyan")
        lines.add_column()
        for moment, words in phase.timeline:
            lines.add_row(tables.time_text(moment), words)
        gap = tables.time_text(phase.probe.gap)
        cost = f"the client waited {gap} at most, {phase.probe.lost} of {phase.probe.sent} datagrams lost"
        holders = [name for name, held in phase.holders_after.items() if held]
        body: list[Table | Text] = [
            lines,
            Text(cost, style="bold"),
            Text(f"holding addresses now: {', '.join(holders)}"),
        ]
        if phase.dead_held is not None and phase.dead_forwarded is not None:
            forwarded, held = tables.time_text(phase.dead_forwarded), tables.time_text(phase.dead_held)
            body.append(Text(f"the dead node forwarded for {forwarded} more; its last address was gone after {held}"))
        console.print(Panel(Group(*body), title=f"{run.scenario}: {phase.name}", title_align="left"))
    if run.error:
        console.print(Text(f"  {run.error}", style="bold red"))
    for name, text in run.logs.items():
        console.print(Text(f"  the end of the log of {name}:\n{text}"))


def _play(console: Console, lab: Lab, scenario: str) -> play.ScenarioRun:
    spinner = Spinner("dots", text=Text("  the pair settles"))
    with Live(spinner, console=console, refresh_per_second=8, transient=True):

        def watch(recording: Recording) -> None:
            spinner.update(text=_meter(recording))

        return play.play(lab, SCENARIOS[scenario], watch=watch)


def run(directory: Path, console: Console, *, say: Callable[[str], None] | None = None) -> None:
    """Give the tour in a lab of its own at `directory`. HacoreError where a scenario did not fail over."""
    tell = say or console.print
    tell("[bold]hacore lab[/bold]: two real nodes between a client and a server, each in a network namespace.")
    tell("The client sends a datagram every millisecond to the server, through whichever node holds the addresses.\n")
    runs: dict[str, list[play.ScenarioRun]] = {}
    reports: list[report.Report] = []
    profile = STOPS[0][0]
    with laboratory.temporary(directory, profile=profile, preempt=True) as lab:
        realtime = play.realtime(lab)
        if not realtime:
            tell("[bold]Without real time[/bold]: SCHED_RR is refused here, so pauses are longer than need be.\n")
        play.heal(lab)
        console.print(picture(lab.profile, lab.preferred.name))
        for number, (profile, scenario, words) in enumerate(STOPS, start=1):
            if profile != lab.record.profile:
                reports.append(report.make(lab, runs[lab.record.profile], family=4, realtime=realtime))
                play.use_profile(lab, profile, preempt=True)
            tell(f"[bold]{number} of {len(STOPS)}: {scenario}[/bold] ({profile}). {words}")
            played = _play(console, lab, scenario)
            runs.setdefault(profile, []).append(played)
            _show(console, played)
        reports.append(report.make(lab, runs[profile], family=4, realtime=realtime))
    for made in reports:
        console.print(tables.scenario_table(made))
    tell("Who holds the addresses now:")
    for line in tables.holders_text(reports[-1].nodes, reports[-1].addresses):
        tell(f"  {line}")
    failed = [played.scenario for made in reports for played in made.runs if not played.failed_over]
    if failed:
        raise HacoreError(f"did not fail over: {', '.join(failed)}")
    tell("\nThe lab is gone again. Your own: `hacore lab up`, `hacore lab exec fw1 hacore status`, `hacore lab down`.")
