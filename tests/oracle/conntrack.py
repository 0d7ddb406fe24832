"""What conntrack(8) prints of an entry (`conntrack -L -o extended`), and what it would print of a row: the independent
judge of what was read from the kernel.
"""

from __future__ import annotations

import re
import socket
from typing import Any, Final

TCP_STATES: Final = (
    "NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT", "LAST_ACK", "TIME_WAIT", "CLOSE",
    "SYN_SENT2",
)  # fmt: skip
SCTP_STATES: Final = (
    "NONE", "CLOSED", "COOKIE_WAIT", "COOKIE_ECHOED", "ESTABLISHED", "SHUTDOWN_SENT", "SHUTDOWN_RECD",
    "SHUTDOWN_ACK_SENT", "HEARTBEAT_SENT",
)  # fmt: skip
SEEN_REPLY, ASSURED = 2, 4
ICMP, TCP, UDP, GRE, ICMPV6, SCTP, UDPLITE = 1, 6, 17, 47, 58, 132, 136

# Not in a row: counters, references, the age.
NOT_OF_A_ROW: Final = {"packets", "bytes", "use", "delta-time", "secctx"}


def printed(line: str) -> dict[str, Any]:
    """One line of conntrack(8): family, protocol, timeout, state, the two tuples, what stands behind them."""
    family, _, _, protocol, rest = re.split(r"\s+", line.strip(), maxsplit=4)
    entry: dict[str, Any] = {"family": family, "protocol": int(protocol), "original": {}, "reply": {}, "marks": set()}
    direction = "before"
    for word in rest.split():
        if word.isdigit():
            entry["timeout"] = int(word)
        elif word.startswith("["):
            entry["marks"].add(word.strip("[]"))
        elif "=" not in word:
            entry["state"] = word
        else:
            name, value = word.split("=", 1)
            if name == "src":
                direction = "original" if direction == "before" else "reply"
            if name in NOT_OF_A_ROW:
                continue
            inner = name in (
                "src",
                "dst",
                "sport",
                "dport",
                "type",
                "code",
                "id",
                "srckey",
                "dstkey",
                "zone-orig",
                "zone-reply",
            )
            (entry[direction] if inner else entry)[name] = value
    return entry


def _half(row: Any, prefix: str) -> dict[str, str]:
    family, size = int(row["family"]), 4 if row["family"] == socket.AF_INET else 16
    source, destination = (
        socket.inet_ntop(family, row[prefix + name].tobytes()[:size]) for name in ("source", "destination")
    )
    tuple_ = {"src": source, "dst": destination}
    source_port, destination_port = int(row[prefix + "source_port"]), int(row[prefix + "destination_port"])
    match int(row["protocol"]):
        case 6 | 17 | 132 | 136:
            tuple_ |= {"sport": str(source_port), "dport": str(destination_port)}
        case 1 | 58:
            tuple_ |= {"type": str(destination_port >> 8), "code": str(destination_port & 255), "id": str(source_port)}
        case 47:
            tuple_ |= {"srckey": hex(source_port), "dstkey": hex(destination_port)}
    return tuple_


def of_row(row: Any) -> dict[str, Any]:
    """The same out of a row."""
    status = int(row["status"])
    entry: dict[str, Any] = {
        "family": "ipv4" if row["family"] == socket.AF_INET else "ipv6",
        "protocol": int(row["protocol"]),
        "timeout": int(row["timeout"]),
        "original": _half(row, ""),
        "reply": _half(row, "reply_"),
        "marks": set(),
        "mark": str(row["mark"]),
    }
    if row["protocol"] == TCP:
        entry["state"] = TCP_STATES[row["protocol_state"]]
    elif row["protocol"] == SCTP:
        entry["state"] = SCTP_STATES[row["protocol_state"]]
    if not status & SEEN_REPLY:
        entry["marks"].add("UNREPLIED")
    if status & ASSURED:
        entry["marks"].add("ASSURED")
    if row["helper"]:
        entry["helper"] = row["helper"].decode()
    zone, reply_zone = int(row["zone"]), int(row["reply_zone"])
    if zone and zone == reply_zone:
        entry["zone"] = str(zone)
    elif zone:
        entry["original"]["zone-orig"] = str(zone)
    elif reply_zone:
        entry["reply"]["zone-reply"] = str(reply_zone)
    return entry


def named(entry: dict[str, Any]) -> tuple[Any, ...]:
    """What an entry goes by, to find it in another listing."""
    key = sorted(entry["original"].items())
    return entry["family"], entry["protocol"], tuple(key), entry.get("zone")
