"""Draws docs/failover.svg: two failovers of the lab's pair, millisecond by millisecond, from what was seen on the wire.

.venv/bin/python tools/draw_failover.py                    plays both (root), writes docs/failover.json and the picture
.venv/bin/python tools/draw_failover.py docs/failover.json draws again what was seen then
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from hacore.lab import capture, figures, laboratory, play, topology
from hacore.lab.observers import Recording
from hacore.lab.scenarios import SCENARIOS
from hacore.lab.stage import Stage

DOCS = Path(__file__).resolve().parents[1] / "docs"
PROFILE = "fast"
SHOWN = {"stop": ("Planned: fw1 is stopped", "told to stop"), "power": ("Unplanned: fw1 loses power", "power lost")}
BEFORE, AFTER = 0.015, 0.055  # seconds shown around the deed

WIDTH, LEFT, RIGHT, TOP, LANE, GAP = 860, 150, 20, 52, 26, 46
COLOURS = {
    "fw1": "#b4530f",
    "fw2": "#1763a6",
    "reply": "#2b8a3e",
    "lost": "#d6001c",
    "text": "#1f2328",
    "faint": "#8c959f",
}


def see(scenario: str) -> dict[str, Any]:
    """Plays `scenario` in a lab of its own; what passed around the deed, in milliseconds from it."""
    with (
        tempfile.TemporaryDirectory() as base,
        laboratory.temporary(Path(base) / "picture", profile=PROFILE, preempt=True) as lab,
    ):
        play.heal(lab)
        with Recording(lab.paths, family=4, mark=lab.directory) as recording:
            stage = Stage(lab, recording)
            stage.settle(lab.preferred)
            began: list[float] = []
            note = stage.struck

            def struck(moment: float) -> None:
                began.append(moment)
                note(moment)

            stage.struck = struck  # type: ignore[method-assign]
            SCENARIOS[scenario].play(stage)
            phase = stage.results()[0]
            seen = recording.observations()
    start = began[0]
    if not phase.moved:
        raise SystemExit(f"{scenario}: the pair did not fail over; nothing was drawn")

    def around(times: figures.Times) -> list[float]:
        inside = times[(times > start - BEFORE) & (times < start + AFTER)]
        return [round(float(time - start) * 1e3, 3) for time in inside]

    probes = seen.client[seen.client["kind"] == capture.PROBE]
    asked = probes[probes["outgoing"]]
    answered = np.isin(asked["number"], probes["number"][~probes["outgoing"]])
    took = [change.time for change in seen.changes if change.held and change.node == "fw2" and change.time >= start]
    return {
        "scenario": scenario,
        "answered": around(asked["time"][answered]),
        "lost": around(asked["time"][~answered]),
        "forwarded": {node: around(figures.sent_by(seen, node, capture.PROBE)) for node in topology.NODES},
        "adverts": {node: around(figures.sent_by(seen, node, capture.ADVERT)) for node in topology.NODES},
        "taken": round((took[0] - start) * 1e3, 3),
    }


def place(milliseconds: float) -> float:
    """The column of a moment."""
    return LEFT + (milliseconds / 1e3 + BEFORE) / (BEFORE + AFTER) * (WIDTH - LEFT - RIGHT)


def ticks(times: list[float], y: float, height: float, colour: str, width: float = 1.6) -> str:
    """A short upright line for each moment."""
    lines = "".join(f"M{place(time):.1f} {y:.1f}v{height:.1f}" for time in times)
    return f'<path d="{lines}" stroke="{colour}" stroke-width="{width}" fill="none"/>'


def text(
    x: float, y: float, words: str, *, colour: str = "text", size: int = 13, anchor: str = "start", bold: bool = False
) -> str:
    """Words that begin, end or are centred at a point."""
    weight = ' font-weight="600"' if bold else ""
    style = f'fill="{COLOURS[colour]}" font-size="{size}" text-anchor="{anchor}"{weight}'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{words}</text>'


def panel(seen: dict[str, Any], top: float) -> list[str]:
    """One failover: a lane for the client, and two for each node."""
    title, deed = SHOWN[seen["scenario"]]
    count = len(seen["lost"])
    lost = f"{count} datagram{'s' * (count != 1)} lost" if count else "no datagram lost"
    gap = float(np.diff(seen["answered"]).max())
    parts = [
        text(16, top, title, size=15, bold=True),
        text(WIDTH - RIGHT, top, f"{lost}, at most {gap:.1f} ms between two that were answered", anchor="end"),
    ]
    lanes = [("client's datagrams", seen["answered"], COLOURS["reply"], 1.6)]
    for node in topology.NODES:
        lanes.append((f"{node} forwards", seen["forwarded"][node], COLOURS[node], 1.6))
        lanes.append((f"{node} adverts", seen["adverts"][node], COLOURS[node], 3.2))
    bottom = top + 14 + len(lanes) * LANE
    for index, (name, times, colour, width) in enumerate(lanes):
        y = top + 14 + index * LANE
        parts.append(f'<path d="M{LEFT} {y + LANE - 5:.1f}H{WIDTH - RIGHT}" stroke="#d0d7de" stroke-width="1"/>')
        parts.append(text(LEFT - 10, y + LANE - 8, name, size=12, anchor="end"))
        parts.append(ticks(times, y + 6, LANE - 11, colour, width))
        if index == 0:
            parts.append(ticks(seen["lost"], y + 6, LANE - 11, COLOURS["lost"]))
    for moment, words, colour in ((0.0, deed, "text"), (seen["taken"], "fw2 has the addresses", "fw2")):
        x = place(moment)
        anchor, shift = ("end", -5) if moment < 1 and colour == "text" else ("start", 5)
        dashes = f'stroke="{COLOURS[colour]}" stroke-width="1" stroke-dasharray="3 3"'
        parts.append(f'<path d="M{x:.1f} {top + 10:.1f}V{bottom + 4:.1f}" {dashes}/>')
        parts.append(text(x + shift, bottom + 12, words, colour=colour, size=11, anchor=anchor))
    return parts


def draw(runs: list[dict[str, Any]]) -> str:
    """The picture as SVG."""
    height = TOP + len(runs) * (14 + 5 * LANE + GAP) + 34
    size = f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="system-ui, Helvetica, Arial, sans-serif">',
        "<title>Two failovers of a pair with the fast profile, as seen on the wire</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    top = float(TOP - 20)
    for seen in runs:
        parts += panel(seen, top)
        top += 14 + 5 * LANE + GAP
    axis = top - 18
    for moment in range(-int(BEFORE * 1e3) // 10 * 10 + 10, int(AFTER * 1e3) + 1, 10):
        parts.append(f'<path d="M{place(moment):.1f} {axis:.1f}v5" stroke="{COLOURS["faint"]}"/>')
        parts.append(text(place(moment), axis + 18, f"{moment} ms", colour="faint", size=11, anchor="middle"))
    parts.append(f'<path d="M{LEFT} {axis:.1f}H{WIDTH - RIGHT}" stroke="{COLOURS["faint"]}"/>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def main() -> None:
    """Plays or reads, then draws."""
    if len(sys.argv) > 1:
        runs = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    else:
        runs = [see(scenario) for scenario in SHOWN]
        lines = ",\n".join(json.dumps(run) for run in runs)
        (DOCS / "failover.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    (DOCS / "failover.svg").write_text(draw(runs), encoding="utf-8")


if __name__ == "__main__":
    main()
