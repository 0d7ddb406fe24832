"""`hacore bench`: the group; each command has a file of its own."""

from __future__ import annotations

import os

import click

from hacore.cli.bench_compare import compare, report
from hacore.cli.bench_failover import failover
from hacore.cli.bench_scale import scale
from hacore.cli.bench_sync import sync
from hacore.linux import termination


@click.group()
@click.pass_context
def bench(context: click.Context) -> None:
    """Measure replication and failover beside what else does it.

    Every figure stands beside its baselines, which are measured by turns with it in the same run.
    """
    # Whatever threads numpy's library starts would be in the figures.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # A run that is told to end puts the kernel's limits back, also between two labs.
    context.with_resource(termination.as_interrupt())


for _command in (sync, failover, scale, report, compare):
    bench.add_command(_command)
