from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

_Records: TypeAlias = npt.NDArray[np.void]

SOURCE: Final[int]
DESTINATION: Final[int]
REPLY_SOURCE: Final[int]
REPLY_DESTINATION: Final[int]

RULE_DTYPE: Final[np.dtype[np.void]]

def matching(rows: _Records, rules: _Records) -> npt.NDArray[np.bool_]: ...
def sift(rows: _Records, events: _Records, portid: int, rules: _Records) -> tuple[int, int]: ...
