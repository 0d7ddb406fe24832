"""The bodies that more than one part of the node API uses; each part has its own beside its routes.

Moments are unix seconds. A struct that gains a field gives it a default, so that nodes of different versions
understand each other.
"""

from __future__ import annotations

from msgspec import Struct

#: Of the API; the first part of every path between nodes, and what a request says in the header `Hacore-Api`.
API_VERSION = 1
API_HEADER = "Hacore-Api"
VERSION_HEADER = "Hacore-Version"


class Problem(Struct, kw_only=True):
    """Why a request was refused: `code` for programs, `message` for people, `hint` what to do about it."""

    code: str
    message: str
    hint: str = ""


class Refusal(Struct, kw_only=True):
    """The body of every answer that is not a success."""

    error: Problem


class Done(Struct, kw_only=True):
    """It is done, and there is nothing to say about it."""

    ok: bool = True


class VipRole(Struct, kw_only=True):
    """A VIP and this node's state in it."""

    name: str
    state: str


class NodeAnswer(Struct, kw_only=True):
    """Who answers. `api` is the version of this API, `version` that of hacore; `now` is this node's clock."""

    name: str
    version: str
    api: int
    vips: list[VipRole]
    started: float
    now: float
    you: str = ""
