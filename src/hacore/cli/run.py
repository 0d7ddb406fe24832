"""`hacore run`."""

from __future__ import annotations

import click

from hacore.cli.options import settings_option


@click.command
@settings_option
def run(settings_path: str) -> None:
    """Run the node in the foreground.

    Takes part in the election of every [[vip]] until it is told to stop (SIGTERM, Ctrl-C): then it bows out, waits for
    its successor and gives the addresses up. SIGHUP reads the settings again. Nothing is touched before the settings
    are found right. Under systemd, enable hacore.service instead.

    Exit codes: 78 wrong settings, 77 missing privileges, 75 a node runs already
    """
    import logging
    import os
    from pathlib import Path

    from hacore.node import supervisor

    # The journal has the time of each line already.
    form = "%(message)s" if "JOURNAL_STREAM" in os.environ else "%(asctime)s %(message)s"
    logging.basicConfig(level=logging.INFO, format=form)
    supervisor.run(Path(settings_path))
