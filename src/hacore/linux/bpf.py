"""Classic BPF programs for sockets: what nobody here wants to see wakes nobody.

Source: Documentation/networking/filter.rst, include/uapi/linux/filter.h, bpf_common.h.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from typing import Final

#: struct sock_filter: code, jump if true, jump if false, k. Loads are big endian; jumps count from the next one.
Program = tuple[tuple[int, int, int, int], ...]

LDB: Final = 0x30  # A = byte, half or word at k
LDH: Final = 0x28
LDW: Final = 0x20
LDB_AT_X: Final = 0x50  # A = byte at X + k
LD_NUMBER: Final = 0x00  # A = k
LDX_NUMBER: Final = 0x01  # X = k
TAX: Final = 0x07
AND: Final = 0x54
JEQ: Final = 0x15
RET: Final = 0x06
#: Loads from here on are not of the packet (SKF_AD_OFF).
ANCILLARY: Final = 0xFFFFF000
#: With an offset in A and a netlink attribute's type in X: the offset of that attribute, or 0 (SKF_AD_NLATTR).
NETLINK_ATTRIBUTE: Final = ANCILLARY + 12
ALL: Final = 0xFFFFFFFF

_SO_ATTACH_FILTER: Final = 26


def attach(opened: socket.socket, program: Program) -> None:
    """From now on the socket receives only what the program returns a length for. Raises OSError."""
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    opened.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(program), ctypes.addressof(buffer)))
