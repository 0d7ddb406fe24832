"""The probe: one UDP datagram a millisecond from the client, sent back by the server, each numbered.

Neither process measures anything: what was sent and what came back is read from the kernel's time stamps on the
client's interface (`capture`), so a late turn of these loops is seen as a late send and never as a gap. Ticks that
were missed are sent as soon as possible.

Datagram: magic, session, number (big endian, 4 + 4 + 8 bytes). Both ends use the same port, so replies are told from
requests by direction.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Sequence

from hacore.linux import libc

PORT = 7007
MAGIC = 0x48414C42
PAYLOAD = struct.Struct("!IIQ")
INTERVAL = 0.001
_PRIORITY = 30


def become_prompt(priority: int = _PRIORITY) -> bool:
    """SCHED_RR for this process and no collector; False where real time is refused."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(priority))
    except PermissionError:
        return False
    return True


def _open(source: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_DGRAM)
    opened.bind((source, PORT))
    return opened


def send(source: str, target: str, session: int, interval: float) -> None:
    """Send on schedule until SIGTERM. Ticks that passed while this process did not run are sent at once."""
    running = True

    def stop(*_: object) -> None:
        nonlocal running
        running = False

    signal.signal(signal.SIGTERM, stop)
    step = round(interval * 1e9)
    number = 0
    with _open(source) as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
        line.setblocking(False)
        due = time.monotonic_ns() + step
        while running:
            now = time.monotonic_ns()
            while due <= now:
                with contextlib.suppress(OSError):
                    line.sendto(PAYLOAD.pack(MAGIC, session, number), (target, PORT))
                number += 1
                due += step
            time.sleep(max(0, due - time.monotonic_ns()) / 1e9)


def echo(source: str) -> None:
    """Send every datagram back to where it came from, until killed."""
    with _open(source) as line:
        buffer = bytearray(2048)
        while True:
            try:
                length, sender = line.recvfrom_into(buffer)
                line.sendto(memoryview(buffer)[:length], sender)
            except OSError:
                continue


def main(arguments: Sequence[str]) -> None:
    """Run one end of the probe; its parent's end is its own."""
    parser = argparse.ArgumentParser(prog="probe")
    commands = parser.add_subparsers(dest="end", required=True)
    sender = commands.add_parser("send")
    sender.add_argument("source")
    sender.add_argument("target")
    sender.add_argument("--session", type=int, default=1)
    sender.add_argument("--interval", type=float, default=INTERVAL)
    commands.add_parser("echo").add_argument("source")
    options = parser.parse_args(arguments)
    libc.signal_at_parent_death(signal.SIGKILL)
    become_prompt()
    if options.end == "echo":
        echo(options.source)
    else:
        send(options.source, options.target, options.session, options.interval)


if __name__ == "__main__":
    main(sys.argv[1:])
