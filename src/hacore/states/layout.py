"""The row: one connection as fixed-width little-endian bytes, 208 of them, the same struct for numpy and for the
kernels.

A row holds what has to reach another node so that its kernel can go on with the connection: what `conntrackd` carries,
and the zones. Counters and the start time are not in it (they can be shown but not injected), nor the kernel's own id.

| field | what |
|---|---|
| `family` | AF_INET (2) or AF_INET6 (10), of every address in the row |
| `protocol` | IPPROTO_*, of both tuples |
| `zone`, `reply_zone` | where each tuple is looked up: equal for both directions, one of them zero for the other only |
| `source...`, `destination...` | the original tuple |
| `reply_...` | the reply tuple, so `reply_source` is normally `destination` |
| `protocol_state` | TCP_CONNTRACK_*, SCTP_CONNTRACK_*; CT_DCCP_* with the role in bit 7; else 0 |
| `status` | IPS_* |
| `timeout` | seconds left |
| `mark` | CTA_MARK |
| `tcp_scale_...`, `tcp_flags_...` | window scale and IP_CT_TCP_FLAG_* of each direction, without the masks |
| `sctp_tag_...` | verification tags, as numbers |
| `labels` | CTA_LABELS as the kernel has them in memory |
| `adjust_...` | CTA_SEQADJ_*: correction position, offsets before and after, of each direction |
| `synproxy_...` | CTA_SYNPROXY_* |
| `master_...` | the original tuple of the connection that expected this one (same family and zone); protocol 0: none |
| `helper` | its name, at most 15 bytes and a zero |

Conventions
    address     16 bytes in network order; an IPv4 address is the first 4, the other 12 are zero
    port        what the kernel keeps in that half of the tuple, as a number (`ntohs` of 16 bits): TCP, UDP, UDP-Lite
                and SCTP the port; ICMP and ICMPv6 the id as source port and type * 256 + code as destination port; GRE
                its two keys; others 0
    absent      zero, or the empty name: mark, labels, helper, a sequence adjustment, SYNPROXY, a master

NAT is not a field: ctnetlink never dumps CTA_NAT_SRC or CTA_NAT_DST (net/netfilter/nf_conntrack_netlink.c,
ctnetlink_fill_info), they follow from the tuples. With IPS_SRC_NAT_DONE in the status the source was rewritten to the
reply destination (address where `reply_destination != source`, port where `reply_destination_port != source_port`);
with IPS_DST_NAT_DONE the destination to the reply source. The injector sends them so, as libnetfilter_conntrack does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hacore._fast.row import KEY_BYTES, KEY_DTYPE, KEY_FIELDS, ROW_BYTES, ROW_DTYPE

__all__ = [
    "KEY_BYTES", "KEY_DTYPE", "KEY_FIELDS", "ROW_BYTES", "ROW_DTYPE", "TCP_FLAGS", "TCP_FLAGS_SHARED", "Keys", "Rows",
    "as_rows", "empty_rows", "key_order", "keys_of",
]  # fmt: skip

Rows = npt.NDArray[np.void]
"""A one-dimensional array of `ROW_DTYPE`."""

Keys = npt.NDArray[np.void]
"""A one-dimensional array of `KEY_DTYPE`."""

TCP_FLAGS = ("tcp_flags_original", "tcp_flags_reply")

TCP_FLAGS_SHARED = 0x01 | 0x02 | 0x04 | 0x80
"""WINDOW_SCALE, SACK_PERM, CLOSE_INIT, SIMULTANEOUS_OPEN. The other IP_CT_TCP_FLAG_* are about the windows that one
kernel has seen, and about how strict it is with them (linux/netfilter/nf_conntrack_tcp.h)."""


def empty_rows(count: int) -> Rows:
    """`count` rows of zeros."""
    return np.zeros(count, dtype=ROW_DTYPE)


def as_rows(rows: npt.NDArray[Any]) -> Rows:
    """The same rows as a contiguous array of `ROW_DTYPE`, copied only where they are not that already.

    Raises:
        TypeError: the array is not one-dimensional or its dtype is not the row's.
    """
    if rows.dtype != ROW_DTYPE or rows.ndim != 1:
        raise TypeError(f"expected a one-dimensional array of rows, got {rows.ndim} dimensions of {rows.dtype}")
    return np.ascontiguousarray(rows)


def keys_of(rows: Rows) -> Keys:
    """The keys of `rows`, as a copy of dtype `KEY_DTYPE`."""
    octets = as_rows(rows).view(np.uint8).reshape(len(rows), ROW_BYTES)
    return np.ascontiguousarray(octets[:, :KEY_BYTES]).view(KEY_DTYPE).reshape(len(rows))


def key_order(rows: Rows) -> npt.NDArray[np.intp]:
    """The indices that sort `rows` by key: the order of the key's 40 bytes, compared as `memcmp` does."""
    return np.argsort(keys_of(rows).view(np.dtype((np.void, KEY_BYTES))), kind="stable")
