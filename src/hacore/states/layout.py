"""The row: one connection as fixed-width little-endian bytes, the same struct as `hacore/_fast/row.h`.

A row holds what has to reach another node so that its kernel can go on with the connection: what `conntrackd` carries, and
the zones. Counters and the start time are not in it (they can be shown but not injected), nor the kernel's own id.

Conventions
    address     16 bytes in network order; an IPv4 address is the first 4, the other 12 are zero
    port        what the kernel keeps in that half of the tuple, as a number (`ntohs` of its 16 bits): TCP, UDP, UDP-Lite and SCTP the
                port; ICMP and ICMPv6 the id as source port and type * 256 + code as destination port; GRE its two keys; others 0
    absent      zero, or the empty name: mark, labels, helper, a sequence adjustment, SYNPROXY and a master that are not there
    zones       `zone` is the zone that the original tuple is looked up in, `reply_zone` the one of the reply tuple. The kernel has
                one zone and its directions: both equal means both directions, one of them zero means the other direction only

NAT is not a field: ctnetlink never dumps CTA_NAT_SRC or CTA_NAT_DST (net/netfilter/nf_conntrack_netlink.c, ctnetlink_fill_info),
they follow from the tuples. With IPS_SRC_NAT_DONE in the status the source was rewritten to the reply destination (address where
`reply_destination != source`, port where `reply_destination_port != source_port`); with IPS_DST_NAT_DONE the destination to the
reply source. The injector sends them so, as libnetfilter_conntrack does.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.void]
"""A one-dimensional array of `ROW_DTYPE`."""

ROW_DTYPE: Final = np.dtype(
    [
        # The key: original tuple and its zone, contiguous at the start (40 bytes).
        ("family", "u1"),  # AF_INET 2 or AF_INET6 10, of every address in the row
        ("protocol", "u1"),  # IPPROTO_*
        ("zone", "<u2"),
        ("source", "u1", 16),
        ("destination", "u1", 16),
        ("source_port", "<u2"),
        ("destination_port", "<u2"),
        # The reply tuple; its family and protocol are those of the key.
        ("reply_source", "u1", 16),
        ("reply_destination", "u1", 16),
        ("reply_source_port", "<u2"),
        ("reply_destination_port", "<u2"),
        ("reply_zone", "<u2"),
        # TCP_CONNTRACK_*, SCTP_CONNTRACK_*; CT_DCCP_* with the role in bit 7; else 0.
        ("protocol_state", "u1"),
        ("master_protocol", "u1"),  # of the master tuple; 0: the connection was not expected
        ("status", "<u4"),  # IPS_*
        ("timeout", "<u4"),  # seconds left
        ("mark", "<u4"),
        ("tcp_scale_original", "u1"),
        ("tcp_scale_reply", "u1"),
        ("tcp_flags_original", "u1"),  # IP_CT_TCP_FLAG_*; the masks are the injector's affair
        ("tcp_flags_reply", "u1"),
        ("sctp_tag_original", "<u4"),  # verification tags, as numbers
        ("sctp_tag_reply", "<u4"),
        ("labels", "u1", 16),  # as the kernel has them in memory
        ("adjust_position_original", "<u4"),  # CTA_SEQADJ_*, original direction
        ("adjust_before_original", "<i4"),
        ("adjust_after_original", "<i4"),
        ("adjust_position_reply", "<u4"),
        ("adjust_before_reply", "<i4"),
        ("adjust_after_reply", "<i4"),
        ("synproxy_isn", "<u4"),
        ("synproxy_its", "<u4"),
        ("synproxy_tsoff", "<u4"),
        # The original tuple of the connection that expected this one, in the same family and zone.
        ("master_source_port", "<u2"),
        ("master_destination_port", "<u2"),
        ("master_source", "u1", 16),
        ("master_destination", "u1", 16),
        ("helper", "S16"),  # at most 15 bytes and a zero
    ]
)
"""The structured dtype of a row: 208 bytes, packed, little endian."""

KEY_FIELDS: Final = ("family", "protocol", "zone", "source", "destination", "source_port", "destination_port")
"""The fields that make the key, in order, at the start of the row."""

KEY_BYTES: Final = 40
ROW_BYTES: Final = 208

KEY_DTYPE: Final = np.dtype([(name, ROW_DTYPE[name]) for name in KEY_FIELDS])
"""The structured dtype of a key alone: the first `KEY_BYTES` of a row."""

assert ROW_DTYPE.itemsize == ROW_BYTES and KEY_DTYPE.itemsize == KEY_BYTES


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


def keys_of(rows: Rows) -> npt.NDArray[np.void]:
    """The keys of `rows`, as a copy of dtype `KEY_DTYPE`."""
    octets = as_rows(rows).view(np.uint8).reshape(len(rows), ROW_BYTES)
    return np.ascontiguousarray(octets[:, :KEY_BYTES]).view(KEY_DTYPE).reshape(len(rows))


def key_order(rows: Rows) -> npt.NDArray[np.intp]:
    """The indices that sort `rows` by key: the order of the key's 40 bytes, compared as `memcmp` does."""
    return np.argsort(keys_of(rows).view(np.dtype((np.void, KEY_BYTES))), kind="stable")
