"""Who owns rows: the nodes by index, their epochs, and which claim wins."""

from __future__ import annotations


class Node:
    """A node as the table's owner `index`; index 0 is this one."""

    name: str
    index: int
    epoch: int
    master: bool
    connected: bool


class Ownership:
    """All nodes ever heard of by this process, at most 255 peers."""

    epoch: int  # of this node
    master: bool  # this node is MASTER of some VHID
    known: int  # the largest epoch of any node

    def node(self, name: str) -> Node | None:
        """The node of that name."""
        raise NotImplementedError

    def owner_name(self, index: int) -> str:
        """Whose rows those with owner `index` are."""
        raise NotImplementedError
