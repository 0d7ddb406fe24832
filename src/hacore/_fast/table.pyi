from typing import Final, TypeAlias, final

import numpy as np
import numpy.typing as npt

_Rows: TypeAlias = npt.NDArray[np.void]
_Keys: TypeAlias = npt.NDArray[np.void]
_Outcomes: TypeAlias = npt.NDArray[np.uint8]

SAME: Final[int]
NEW: Final[int]
CHANGED: Final[int]
REFRESHED: Final[int]
DELETED: Final[int]
ABSENT: Final[int]
EXISTS: Final[int]
FULL: Final[int]

MAX_STATES: Final[int]

META_DTYPE: Final[np.dtype[np.void]]

@final
class Table:
    def __new__(
        cls, seed: bytes, digest_key: bytes, *, max_states: int, partitions: int = 1024, tombstones: int = 65_536
    ) -> Table: ...
    def __len__(self) -> int: ...
    @property
    def max_states(self) -> int: ...
    @property
    def partitions(self) -> int: ...
    @property
    def version(self) -> int: ...
    @property
    def not_fitted(self) -> int: ...
    @property
    def memory_bytes(self) -> int: ...
    def insert(
        self,
        rows: _Rows,
        *,
        owner: int = 0,
        epoch: int = 0,
        generation: int = 0,
        now: int = 0,
        before: _Rows | None = None,
    ) -> _Outcomes: ...
    def update(
        self,
        rows: _Rows,
        *,
        owner: int = 0,
        epoch: int = 0,
        generation: int = 0,
        now: int = 0,
        slack: int = 0,
        keep_owner: bool = False,
        before: _Rows | None = None,
    ) -> _Outcomes: ...
    def put(
        self,
        rows: _Rows,
        *,
        owner: int = 0,
        epoch: int = 0,
        generation: int = 0,
        now: int = 0,
        slack: int = 0,
        keep_owner: bool = False,
        before: _Rows | None = None,
    ) -> _Outcomes: ...
    def delete(self, keys: _Keys | _Rows, *, before: _Rows | None = None) -> _Outcomes: ...
    def find(self, keys: _Keys | _Rows) -> npt.NDArray[np.int64]: ...
    def lookup(self, keys: _Keys | _Rows) -> tuple[_Rows, npt.NDArray[np.bool_]]: ...
    def assign(self, keys: _Keys | _Rows, *, owner: int, epoch: int) -> int: ...
    def hand_over(self, owner: int, *, to: int, epoch: int, generation: int) -> int: ...
    def scan(
        self, cursor: int | None = None, limit: int = 65_536, *, owner: int | None = None, now: int | None = None
    ) -> tuple[_Rows, int]: ...
    def select(self, partitions: npt.ArrayLike, *, owner: int | None = None, now: int | None = None) -> _Rows: ...
    def stale(self, generation: int, *, owner: int | None = None) -> _Rows: ...
    def dirty(self, since: int, *, owner: int | None = None, now: int | None = None) -> tuple[_Rows, _Keys, bool]: ...
    def digests(self, owner: int = 0) -> npt.NDArray[np.uint64]: ...
    def names(self, keys: _Keys | _Rows) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.bool_]]: ...
    def resolve(self, names: npt.NDArray[np.uint64], *, owner: int | None = None) -> npt.NDArray[np.int64]: ...
    def rekey(self, seed: bytes, digest_key: bytes) -> None: ...
    def rows(self) -> _Rows: ...
    def metadata(self) -> npt.NDArray[np.void]: ...
    def hashes(self, keys: _Keys | _Rows) -> npt.NDArray[np.uint32]: ...
