"""The dtypes of what stands beside a row and of an expectation: what `ctnetlink.h` declares, for numpy.

Conventions are those of `hacore.states.layout`: addresses are 16 bytes of which an IPv4 address is the first 4, ports
are what the kernel keeps in that half of the tuple, absent is zero.
"""

from typing import Final

import numpy as np

EVENT_DTYPE: Final = np.dtype(
    [
        ("portid", "<u4"),  # the netlink socket that caused it; 0: traffic or expiry
        ("id", "<u4"),  # the kernel's id of the entry; 0: not told
        ("present", "<u2"),  # HAS_* of hacore._fast.ctnetlink: the parts of the row that this message tells
        ("kind", "u1"),  # EVENT_*
        ("reserved", "u1"),
    ]
)
"""Beside each parsed row: where it comes from and what it tells."""

DISPLAY_DTYPE: Final = np.dtype(
    [
        ("start_ns", "<u8"),  # nanoseconds since 1970
        ("stop_ns", "<u8"),
        ("packets_original", "<u8"),
        ("bytes_original", "<u8"),
        ("packets_reply", "<u8"),
        ("bytes_reply", "<u8"),
    ]
)
"""Beside each parsed row: what can be shown and not injected. The kernel tells it only with `nf_conntrack_acct` and
`nf_conntrack_timestamp`."""

EXPECTATION_DTYPE: Final = np.dtype(
    [
        ("family", "u1"),
        ("protocol", "u1"),
        (
            "zone",
            "<u2",
        ),  # never told by the kernel: to be filled in from the master's row before it is injected elsewhere
        ("source", "u1", 16),
        ("destination", "u1", 16),
        ("source_port", "<u2"),
        ("destination_port", "<u2"),
        ("mask_source", "u1", 16),  # the mask of the destination is all ones
        ("mask_source_port", "<u2"),
        ("master_protocol", "u1"),
        ("has_nat", "u1"),
        ("master_source", "u1", 16),  # the original tuple of the connection that expects
        ("master_destination", "u1", 16),
        ("master_source_port", "<u2"),
        ("master_destination_port", "<u2"),
        ("nat_source", "u1", 16),  # CTA_EXPECT_NAT: the address and port to translate back to
        ("nat_source_port", "<u2"),
        ("nat_protocol", "u1"),
        ("nat_direction", "u1"),  # IP_CT_DIR_*
        ("timeout", "<u4"),  # seconds left
        ("flags", "<u4"),  # NF_CT_EXPECT_*
        ("class", "<u4"),  # of the helper's policies
        ("helper", "S16"),  # the master's
        ("function", "S32"),  # CTA_EXPECT_FN
    ]
)
"""One expectation: a connection that a helper waits for, 176 bytes."""

assert (EVENT_DTYPE.itemsize, DISPLAY_DTYPE.itemsize, EXPECTATION_DTYPE.itemsize) == (12, 48, 176)
