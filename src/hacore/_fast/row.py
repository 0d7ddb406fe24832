"""The dtypes of a row and of its key: what `row.h` declares, for numpy. `hacore.states.layout` says what the fields
mean."""

from typing import Final

import numpy as np

ROW_DTYPE: Final = np.dtype(
    [
        # The key: original tuple and its zone, contiguous at the start (40 bytes).
        ("family", "u1"),
        ("protocol", "u1"),
        ("zone", "<u2"),
        ("source", "u1", 16),
        ("destination", "u1", 16),
        ("source_port", "<u2"),
        ("destination_port", "<u2"),
        # The reply tuple.
        ("reply_source", "u1", 16),
        ("reply_destination", "u1", 16),
        ("reply_source_port", "<u2"),
        ("reply_destination_port", "<u2"),
        ("reply_zone", "<u2"),
        ("protocol_state", "u1"),
        ("master_protocol", "u1"),
        ("status", "<u4"),
        ("timeout", "<u4"),
        ("mark", "<u4"),
        ("tcp_scale_original", "u1"),
        ("tcp_scale_reply", "u1"),
        ("tcp_flags_original", "u1"),
        ("tcp_flags_reply", "u1"),
        ("sctp_tag_original", "<u4"),
        ("sctp_tag_reply", "<u4"),
        ("labels", "u1", 16),
        ("adjust_position_original", "<u4"),
        ("adjust_before_original", "<i4"),
        ("adjust_after_original", "<i4"),
        ("adjust_position_reply", "<u4"),
        ("adjust_before_reply", "<i4"),
        ("adjust_after_reply", "<i4"),
        ("synproxy_isn", "<u4"),
        ("synproxy_its", "<u4"),
        ("synproxy_tsoff", "<u4"),
        ("master_source_port", "<u2"),
        ("master_destination_port", "<u2"),
        ("master_source", "u1", 16),
        ("master_destination", "u1", 16),
        ("helper", "S16"),
    ]
)

KEY_FIELDS: Final = ("family", "protocol", "zone", "source", "destination", "source_port", "destination_port")

KEY_DTYPE: Final = np.dtype([(name, ROW_DTYPE[name]) for name in KEY_FIELDS])

KEY_BYTES: Final = 40
ROW_BYTES: Final = 208

assert (ROW_DTYPE.itemsize, KEY_DTYPE.itemsize) == (ROW_BYTES, KEY_BYTES)
