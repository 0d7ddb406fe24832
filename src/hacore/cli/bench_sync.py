"""`hacore bench sync`."""

from __future__ import annotations

import click


@click.command()
def sync() -> None:
    """Measure how connections get from one kernel to another: all at once, one by one, and as fast as it goes."""
