"""A run as one page of HTML that needs nothing else: tables with ratios, and plots."""

from __future__ import annotations

import time
from collections.abc import Iterator
from html import escape

from hacore.bench import plots, words
from hacore.bench.result import OWN, Figure, Parameters, Result, Scalar, Series

_FEWEST = 3
"""Samples of a subject from which a plot of them says more than the table."""
_STYLE = """
:root { color-scheme: light dark; --back: #ffffff; --text: #1f2328; --faint: #59636e; --line: #d1d9e0; --soft: #f6f8fa;
  --c0: #0b62c4; --c1: #58a6ff; --c2: #c2410c; --c3: #e08a3c; --c4: #a16207; --c5: #7c3aed; --c6: #15803d; }
@media (prefers-color-scheme: dark) { :root { --back: #0d1117; --text: #e6edf3; --faint: #9198a1; --line: #3d444d;
  --soft: #151b23; --c0: #58a6ff; --c1: #a5d1ff; --c2: #ff8c5a; --c3: #ffc08a; --c4: #e3c14a; --c5: #b794f6;
  --c6: #56d364; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem 1rem 4rem; background: var(--back); color: var(--text);
  font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .75rem; } h2 { font-size: 1.1rem; margin: 2.25rem 0 .5rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: 0 0 1rem; }
dt { color: var(--faint); } dd { margin: 0; overflow-wrap: anywhere; }
.wide { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .87rem; }
th, td { padding: .35rem .7rem; text-align: right; vertical-align: top; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th:first-child { text-align: left; position: sticky; left: 0; background: var(--back); }
thead th { background: var(--soft); font-weight: 600; white-space: normal; vertical-align: bottom; }
thead th:first-child { background: var(--soft); }
tbody tr:last-child > * { border-bottom: 0; } tbody th { font-weight: 500; }
td small { display: block; color: var(--faint); }
.note { border-left: 3px solid #bf8700; padding: .2rem .8rem; margin: .4rem 0; overflow-wrap: anywhere;
  white-space: pre-line; }
.lack { border-left-color: #d1242f; font-weight: 600; }
.legend { color: var(--faint); font-size: .87rem; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr)); gap: 1rem;
  margin: .8rem 0; }
figure { margin: 0; border: 1px solid var(--line); border-radius: 6px; padding: .6rem .6rem .3rem; min-width: 0; }
figcaption { font-size: .87rem; margin-bottom: .3rem; } svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--text); font-size: 15px; } svg .tick { fill: var(--faint); } svg .name { fill: var(--faint); }
svg .grid { stroke: var(--line); stroke-width: 1; } svg .course { fill: none; stroke-width: 2; }
svg .dot { stroke: none; fill-opacity: .75; } svg .bar { stroke-width: 2.5; }
""" + "".join(f".c{n} {{ fill: var(--c{n}); stroke: var(--c{n}); }}\n" for n in range(plots.COLOURS))


def page(result: Result) -> str:
    """The whole page."""
    title = words.title(result)
    moment = time.strftime("%Y-%m-%d %H:%M", time.localtime(result.started))
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}, {moment}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1><dl><dt>began</dt><dd>{moment}</dd>",
        *(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in words.facts(result)),
        "</dl>",
        *(f'<p class="note lack">{escape(line)}</p>' for line in words.missing(result)),
        *(f'<p class="note">{escape(note)}</p>' for note in result.notes),
        '<p class="legend">Median / worst; below: how many times hacore\'s median of the same run.</p>',
    ]
    colours = colours_of(result)
    for plotted in (list(_growth(result, colours)), list(_courses(result.series, colours))):
        if plotted:
            parts += ['<div class="plots">', *plotted, "</div>"]
    for block in words.blocks(result):
        parts += [f"<h2>{escape(block.title)}</h2>", _table(block)]
        if strips := list(_strips(block, colours)):
            parts += ['<div class="plots">', *strips, "</div>"]
    return "\n".join([*parts, "</body></html>"]) + "\n"


def colours_of(result: Result) -> dict[str, int]:
    """A colour's number for each subject, the same all over the page; hacore's is the first."""
    subjects = [OWN, *(figure.subject for figure in result.figures), *(series.subject for series in result.series)]
    return {subject: number for number, subject in enumerate(dict.fromkeys(subjects))}


def _table(block: words.Block) -> str:
    heads = "".join(f"<th>{escape(name)}</th>" for name in block.names)
    rows = []
    for subject in block.subjects:
        cells = "".join(_cell(block.cells.get((subject, name))) for name in block.names)
        rows.append(f"<tr><th>{escape(subject)}</th>{cells}</tr>")
    return (
        f'<div class="wide"><table><thead><tr><th></th>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    )


def _cell(cell: words.Cell | None) -> str:
    if cell is None:
        return "<td></td>"
    below = [words.tail(cell.figure), "" if cell.ratio is None else words.ratio_text(cell.ratio)]
    small = "".join(f"<small>{line}</small>" for line in below if line)
    return f'<td title="{len(cell.figure.samples)} samples">{words.spread(cell.figure)}{small}</td>'


def _figure(caption: str, drawing: str) -> str:
    return f"<figure><figcaption>{escape(caption)}</figcaption>{drawing}</figure>"


def _strips(block: words.Block, colours: dict[str, int]) -> Iterator[str]:
    """A strip for each figure of `block` that has enough samples which differ."""
    for name in block.names:
        figures = [cell.figure for subject in block.subjects if (cell := block.cells.get((subject, name)))]
        rows = [plots.Strip(each.subject, colours[each.subject], each.samples) for each in figures]
        if max(len(row.samples) for row in rows) >= _FEWEST and len({v for row in rows for v in row.samples}) > 1:
            yield _figure(f"{name}: {block.title}", plots.strips(name, figures[0].unit, rows))


def _growth(result: Result, colours: dict[str, int]) -> Iterator[str]:
    """Medians over each parameter that is a number and takes several values while the others stay."""
    courses: dict[tuple[str, str, tuple[tuple[str, Scalar], ...]], list[tuple[float, Figure]]] = {}
    for figure in result.figures:
        for name, value in figure.parameters.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool) and figure.samples:
                rest = tuple(sorted((key, other) for key, other in figure.parameters.items() if key != name))
                courses.setdefault((figure.name, name, rest), []).append((float(value), figure))
    for (label, name, rest), found in courses.items():
        if len({value for value, _ in found}) < 2:
            continue
        subjects = dict.fromkeys(figure.subject for _, figure in found)
        rows = []
        for subject in subjects:
            points = sorted((value, figure.median) for value, figure in found if figure.subject == subject)
            rows.append(plots.Line(subject, colours[subject], [x for x, _ in points], [y for _, y in points]))
        fixed = words.parameters_text(dict(rest)) if rest else ""
        caption = f"{label} over {name}" + (f": {fixed}" if fixed else "")
        yield _figure(caption, plots.lines(label, found[0][1].unit, name, "1", rows, dots=True))


def _courses(series: list[Series], colours: dict[str, int]) -> Iterator[str]:
    grouped: dict[tuple[str, tuple[tuple[str, Scalar], ...]], list[Series]] = {}
    for each in series:
        if each.x:
            grouped.setdefault((each.name, tuple(sorted(each.parameters.items()))), []).append(each)
    for (name, _), found in grouped.items():
        rows = [plots.Line(each.subject, colours[each.subject], each.x, each.y) for each in found]
        parameters: Parameters = found[0].parameters
        first = found[0]
        yield _figure(
            f"{name}: {words.parameters_text(parameters)}",
            plots.lines(name, first.unit, first.x_name, first.x_unit, rows, dots=len(first.x) <= 30),
        )
