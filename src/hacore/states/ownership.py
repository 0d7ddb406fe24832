"""Who owns rows: the nodes by index, their epochs, and which claim wins.

A node is a name and an instance (one life of its process). Rows carry the index of their owner and the epoch of their
last change by it. Of two claims to one row the one with the higher epoch wins; with equal ones that of a node that is
MASTER of something over one that is not, then that of the lower name: every node comes to the same result, whatever
the order in which it hears of them.

A node raises its epoch above all that it knows when

- it becomes MASTER of a VHID: what it says from now on is newer than what anybody said before;
- it is MASTER and loses the connection to a peer: the rows that it touches from now on can be told from those it does
not;
- it is MASTER and hears of a node that is not, with an epoch as high as its own (after a partition, or with a lost
state directory): the
  MASTER's rows win, and those it touched since the connection was lost are stamped anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

from hacore.errors import WireError
from hacore.states.events import AnyEvent, EpochRaised

MAX_NODES: Final = 256
MAX_EPOCH: Final = 2**32 - 1
BELIEVED_EPOCH: Final = 2**31
"""An epoch up to here is believed whoever says it: raised once a second, that takes 68 years."""
BELIEVED_STEP: Final = 2**20
"""A larger one only where it is at most so far above all that are known: there is none above `MAX_EPOCH`, so a peer's
mistake would leave nothing for this node's next promotion.
"""

Owners = npt.NDArray[np.uint8]
Epochs = npt.NDArray[np.uint32]

SELF: Final = 0
"""The owner index of this node's own rows."""


class Node:
    """One life of a node as the table's owner `index`; index 0 is this one.

    Attributes:
        current: no later life of that name is known.
        connected: a connection from it is up, so that it can say itself what becomes of its rows.
        lost_epoch: this node's epoch since the connection was lost: rows with it were touched since then.
        follows: it has been this node's replica in this life.
        acknowledged: position of this node's log that is in its kernel.
    """

    __slots__ = (
        "acknowledged", "connected", "current", "epoch", "follows", "has_rows", "index", "instance", "lost_epoch",
        "master", "name",
    )  # fmt: skip

    def __init__(self, name: str, instance: bytes, index: int) -> None:
        self.name = name
        self.instance = instance
        self.index = index
        self.epoch = 0
        self.master = False
        self.current = True
        self.connected = False
        self.has_rows = False
        self.lost_epoch = 0
        self.follows = False
        self.acknowledged = 0


class Ownership:
    """All nodes that this process has heard of and that may still own rows.

    Args:
        name, instance: this node's.
        epoch: the last one it had.
        journal: where events go.
        announce: called with `now` when this node's epoch was raised.
    """

    def __init__(
        self, name: str, instance: bytes, epoch: int, journal: list[AnyEvent], announce: Callable[[float], None]
    ) -> None:
        self.me = Node(name, instance, SELF)
        self.me.epoch = epoch
        self.known = epoch
        self._journal = journal
        self._announce = announce
        self._by_index: dict[int, Node] = {SELF: self.me}
        self._current: dict[str, Node] = {}
        self._precedence: npt.NDArray[np.int32] = np.zeros(MAX_NODES, dtype=np.int32)
        self._raised_at = -np.inf

    @property
    def name(self) -> str:
        """This node's name."""
        return self.me.name

    @property
    def epoch(self) -> int:
        """This node's epoch."""
        return self.me.epoch

    @property
    def master(self) -> bool:
        """This node is MASTER of some VHID."""
        return self.me.master

    @property
    def nodes(self) -> list[Node]:
        """All of them, this one first."""
        return list(self._by_index.values())

    def node(self, name: str) -> Node | None:
        """The present life of the node of that name."""
        return self.me if name == self.me.name else self._current.get(name)

    def life(self, name: str, instance: bytes) -> Node | None:
        """That life of the node of that name."""
        for node in self._by_index.values():
            if node.instance == instance and node.name == name:
                return node
        return None

    def owner_name(self, index: int) -> str:
        """Whose rows those with owner `index` are."""
        node = self._by_index.get(index)
        return node.name if node else ""

    def meet(self, name: str, instance: bytes, epoch: int, known: int, master: bool) -> tuple[Node, Node | None]:
        """A hello: the node, and its former life when this is another one.

        A node that starts anew as MASTER, met by one that is not, goes on as the owner of its former rows: its table
        is the truth, and digests tell what has changed. Else the former life stays behind as an owner of its own,
        whom nobody speaks for any more.

        Raises:
            WireError: rung "nodes", there are too many; "epoch", nobody can have come to that one.
        """
        self._check(name, max(epoch, known))
        former = self._current.get(name)
        if former is not None and former.instance == instance:
            node, former = former, None
        elif former is not None and master and not self.me.master:
            former.instance, former.epoch = instance, 0
            former.acknowledged, former.follows = 0, False
            node, former = former, None
        else:
            if former is not None:
                former.current = former.master = former.connected = False
            node = self._add(name, instance)
        self.heard(node, epoch, known, master)
        return node, former

    def _check(self, name: str, epoch: int) -> None:
        if epoch > max(self.known, BELIEVED_EPOCH) + BELIEVED_STEP:
            raise WireError("epoch", f"{name} speaks of epoch {epoch}, and the last one known here is {self.known}")

    def _add(self, name: str, instance: bytes) -> Node:
        index = next((index for index in range(1, MAX_NODES) if index not in self._by_index), None)
        if index is None:
            raise WireError("nodes", f"more than {MAX_NODES - 1} nodes, and lives of nodes, own rows")
        node = self._by_index[index] = self._current[name] = Node(name, instance, index)
        return node

    def forget(self, node: Node) -> None:
        """A former life that owns nothing any more."""
        if not node.current:
            self._by_index.pop(node.index, None)

    def heard(self, node: Node, epoch: int, known: int, master: bool) -> None:
        """A node's hello or role. One that was overtaken on another connection says nothing new.

        Raises:
            WireError: rung "epoch", nobody can have come to that one.
        """
        self._check(node.name, max(epoch, known))
        if epoch >= node.epoch:
            node.epoch, node.master = epoch, master
        self.known = max(self.known, epoch, known)
        self._order()

    def _order(self) -> None:
        """The order of claims with equal epochs: MASTERs before others, each by name, former lives last."""
        ordered = sorted(
            self._by_index.values(), key=lambda node: (node.master, node.current, _descending(node.name)), reverse=False
        )
        for place, node in enumerate(ordered):
            self._precedence[node.index] = place

    def raise_epoch(self, reason: str, now: float) -> int:
        """This node's epoch becomes higher than any that is known."""
        if self.known >= MAX_EPOCH:
            return self.me.epoch
        self.known += 1
        self.me.epoch = self.known
        self._raised_at = now
        self._journal.append(EpochRaised(at=now, epoch=self.known, reason=reason))
        self._announce(now)
        return self.me.epoch

    def may_contest(self, now: float) -> bool:
        """Whether the epoch may be raised for traffic on another MASTER's rows: at most once a second, or two nodes
        race each other.
        """
        return self.me.master and now - self._raised_at >= 1.0

    def set_master(self, master: bool) -> None:
        """This node's own role."""
        self.me.master = master
        self._order()

    def overruled_by(self, node: Node) -> bool:
        """Whether this MASTER has to raise its epoch above that of a node that is not."""
        return self.me.master and node.current and not node.master and node.epoch >= self.me.epoch

    @property
    def others_own(self) -> bool:
        """Whether rows may belong to anybody but this node."""
        return any(node.has_rows for node in self._by_index.values() if node.index != SELF)

    def only_owner(self, index: int) -> bool:
        """Whether all rows there are can only be those of `index`."""
        return not any(node.has_rows for node in self._by_index.values() if node.index != index)

    def left_to(self, index: int, epoch: int, owners: Owners, epochs: Epochs) -> npt.NDArray[np.bool_]:
        """For each row of owners and epochs, whether its owner is a node that is gone, and MASTER `index` has a higher
        epoch: it sees what becomes of the row.
        """
        gone = np.zeros(MAX_NODES, dtype=np.bool_)
        if self._by_index[index].master:
            for node in self._by_index.values():
                gone[node.index] = node.index != SELF and not node.connected
        left: npt.NDArray[np.bool_] = gone[owners] & (epochs < epoch)
        return left

    def wins(self, index: int | Owners, epoch: int | Epochs, owners: Owners, epochs: Epochs) -> npt.NDArray[np.bool_]:
        """For each row of owners and epochs, whether a claim of `index` with `epoch` wins it."""
        precedence = self._precedence
        result: npt.NDArray[np.bool_] = (
            (owners == index) | (epochs < epoch) | ((epochs == epoch) & (precedence[owners] < precedence[index]))
        )
        return result


def _descending(name: str) -> tuple[int, ...]:
    """Sorts names from the last to the first."""
    return (*(-ord(char) for char in name), 1)
