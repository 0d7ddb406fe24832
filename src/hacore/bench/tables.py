"""A run as tables on the terminal: one a group of figures, a column a subject, and hacore's ratio to each baseline."""

from __future__ import annotations

from rich.table import Table

from hacore.bench.result import OWN, Figure, Result

PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "u"), (1e-9, "n"))


def shown(value: float, unit: str) -> str:
    """With three digits: 1.23 ms, 16.6 k states/s, 4.9 B."""
    if value == 0:
        return f"0 {unit}"
    factor, prefix = next((pair for pair in PREFIXES if abs(value) >= pair[0]), PREFIXES[-1])
    if unit == "s":
        factor, prefix = (factor, prefix) if factor < 1 else (1.0, "")
        return f"{value / factor:.3g} {prefix}s" if value < 1000 else f"{value:.0f} s"
    if factor < 1:
        return f"{value:.3g} {unit}"
    return f"{value / factor:.3g} {prefix}{unit}" if prefix else f"{value:.3g} {unit}"


def tables(found: Result) -> list[Table]:
    """One for each group; a group is what stands before the colon of a figure's name."""
    groups: dict[str, list[Figure]] = {}
    for figure in found.figures:
        groups.setdefault(figure.name.partition(": ")[0], []).append(figure)
    return [_table(name, figures) for name, figures in groups.items()]


def _table(name: str, figures: list[Figure]) -> Table:
    subjects = list(dict.fromkeys(figure.subject for figure in figures))
    table = Table(title=f"{name} (median; hacore's ratio to each)", title_justify="left")
    table.add_column("")
    for subject in subjects:
        table.add_column(subject, justify="right")
    rows: dict[object, dict[str, Figure]] = {}
    for figure in figures:
        rows.setdefault(figure.key, {})[figure.subject] = figure
    for row in rows.values():
        first = next(iter(row.values()))
        told = ", ".join(f"{value:,} {key}" if not isinstance(value, str) else value
                         for key, value in first.parameters.items())  # fmt: skip
        quantity = first.name.partition(": ")[2] or first.name
        table.add_row(f"{quantity} ({told})" if told else quantity, *(_cell(row, subject) for subject in subjects))
    return table


def _cell(row: dict[str, Figure], subject: str) -> str:
    figure, own = row.get(subject), row.get(OWN)
    if figure is None:
        return ""
    text = shown(figure.median, figure.unit)
    if own is None or subject == OWN or figure.median <= 0:
        return text
    return f"{text}  x{own.median / figure.median:.2f}"
