from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

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
