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
from hacore.lab.stage import PhaseFigures

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
           10.1.0.1                                     10.2.0.1
           2001:db8:1::1    ┌── {fw1} ──┐       2001:db8:2::1
               lan ┌────────┤ advskew {one:<3}    ├────────┐ wan
  ┌────────┐       │        └───────┬────────┘        │       ┌────────┐
  │ client ├───────┤                │ sync            ├───────┤ server │
  └────────┘       │        ┌───────┴────────┐        │       └────────┘
                   └────────┤ advskew {two:<3}    ├────────┘
  a datagram                └── {fw2} ──┘            sends each back
  a millisecond
"""
_PLAIN = str.maketrans("┌┐└┘├┤┬┴─│", "++++++++-|")


def picture(profile: nodes.Profile, holder: str | None, *, plain: bool = False) -> Text:
    """The lab, with the node that holds the addresses marked; `plain` for a terminal that knows only ASCII."""
    labels = {name: f"{name} MASTER" if name == holder else f"{name} BACKUP" for name in topology.NODES}
    lines = _PICTURE.format(**labels, one=profile.advskews[0], two=profile.advskews[1])
    drawn = Text(lines.translate(_PLAIN) if plain else lines)
    drawn.highlight_words([label for label in labels.values() if label.endswith("MASTER")], "bold green")
    drawn.highlight_words([label for label in labels.values() if label.endswith("BACKUP")], "yellow")
    return drawn


def _meter(recording: Recording) -> Text:
    held = ", ".join(f"{name} holds {len(addresses)}" for name, addresses in recording.held.items())
    counts = recording.counts
    return Text(
        f"  {counts['sent']:6} datagrams sent, {counts['received']:6} came back; addresses: {held}", style="cyan"
    )


def _cost(phase: PhaseFigures) -> Text:
    waited, gap = tables.time_text(phase.probe.wait), tables.time_text(phase.probe.gap)
    lost = f"lost {phase.probe.lost} of {phase.probe.sent} datagrams"
    return Text(f"the client waited {waited} at most (gap {gap}), {lost}", style="bold")


def _holders(phase: PhaseFigures) -> str:
    return " and ".join(name for name, held in phase.holders_after.items() if held) or "nobody"


def _show(console: Console, run: play.ScenarioRun) -> None:
    """A frame for each phase that is about a failover; of what undoes it only the cost."""
    for phase in run.phases:
        if not phase.must_move:
            waited = tables.time_text(phase.probe.wait)
            lost = f"lost {phase.probe.lost} of {phase.probe.sent}"
            console.print(
                f"Then {phase.name}: the client waited {waited} at most, {lost}; {_holders(phase)} holds now."
            )
            continue
        lines = Table.grid(padding=(0, 2))
        lines.add_column(justify="right", style="cyan", no_wrap=True)
        lines.add_column()
        for moment, words in phase.timeline:
            lines.add_row(f"{moment * 1e3:.1f} ms", words)
        body: list[Table | Text] = [lines, _cost(phase), Text(f"holding addresses now: {_holders(phase)}")]
        if phase.dead_held is not None and phase.dead_forwarded is not None:
            forwarded = f"for {tables.time_text(phase.dead_forwarded)} more" if phase.dead_forwarded else "nothing more"
            held = tables.time_text(phase.dead_held)
            body.append(Text(f"the dead node forwarded {forwarded}; its addresses went after {held}"))
        console.print(Panel(Group(*body), title=tables.phase_name(run.scenario, phase.name), title_align="left"))
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
        console.print(picture(lab.profile, lab.preferred.name, plain=not console.encoding.startswith("utf")))
        for number, (profile, scenario, words) in enumerate(STOPS, start=1):
            if profile != lab.record.profile:
                reports.append(report.make(lab, runs[lab.record.profile], family=4, realtime=realtime))
                play.use_profile(lab, profile, preempt=True)
            tell(f"\n[bold]{number} of {len(STOPS)}: {scenario}[/bold], profile {profile}. {words}")
            played = _play(console, lab, scenario)
            runs.setdefault(profile, []).append(played)
            _show(console, played)
        reports.append(report.make(lab, runs[profile], family=4, realtime=realtime))
    tell("\n[bold]What it cost[/bold]\n")
    for made in reports:
        console.print(tables.scenario_table(made, legend=made is reports[-1]), "")
    tell("The client waited longest:")
    for made in reports:
        tell(f"  {_longest(made)}")
    tell("Who holds the addresses now:")
    for line in tables.holders_text(reports[-1].nodes, reports[-1].addresses):
        tell(f"  {line}")
    failed = [played.scenario for made in reports for played in made.runs if not played.failed_over]
    if failed:
        raise HacoreError(f"did not fail over: {', '.join(failed)}")
    tell("\nThe lab is gone again. One that stays, to try things in:")
    for command in ("up", "exec fw1 hacore status", "run crash", "down"):
        tell(f"  hacore lab {command}")


def _longest(made: report.Report) -> str:
    wait, name = max(
        (phase.probe.wait, tables.phase_name(run.scenario, phase.name)) for run in made.runs for phase in run.phases
    )
    return f"{tables.time_text(wait)} with the profile {made.profile}, in {name}"
