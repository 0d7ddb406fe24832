"""What happened on a node, as one struct, and how a part of the node tells it."""

from __future__ import annotations

from typing import Protocol

import msgspec
from msgspec import Struct

Value = str | int | float | bool | None


class Event(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that happened on this node.

    `seq` grows by one with each event, over restarts too; `boot` is the kernel's boot id; `time` is unix seconds;
    `kind` is a word such as "transition" or "hook-failed"; `vip` names the VIP it is about, if any; `text` is for
    people; `fields` holds the same for programs.
    """

    seq: int
    boot: str
    time: float
    node: str
    kind: str
    text: str = ""
    vip: str = ""
    fields: dict[str, Value] = {}


class Emit(Protocol):
    """Records an event, `at` a unix time or now; `History.record` is one."""

    def __call__(self, kind: str, text: str, *, vip: str = "", at: float | None = None, **fields: Value) -> object:
        """Neither waits nor fails."""


#: What msgspec raises for bytes that are not JSON of the type asked for: bad UTF-8 and deep nesting come as they are.
NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

#: One line of JSON without its newline, and back; the decoder raises one of NOT_JSON.
encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Event).decode
