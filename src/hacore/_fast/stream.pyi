from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from hacore._fast.codec import Changes
from hacore._fast.table import Table

_Records: TypeAlias = npt.NDArray[np.void]

MAX_EVENTS: Final[int]

def observe(
    table: Table,
    rows: _Records,
    events: _Records,
    *,
    epoch: int,
    generation: int,
    now: int,
    named: bool,
    differences: bool,
    encode: bool,
) -> tuple[bytes, int, int]: ...
def apply(
    table: Table, changes: Changes, *, owner: int, epoch: int, generation: int, now: int
) -> tuple[_Records, npt.NDArray[np.bool_], npt.NDArray[np.bool_], _Records, bool, bool, int]: ...
