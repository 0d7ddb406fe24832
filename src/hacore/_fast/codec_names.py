"""The numbers that name rows in a chunk of changes."""

from typing import Final

import numpy as np
import numpy.typing as npt

NAME_BITS: Final = 56
"""Numbers that name rows are below 2 ** NAME_BITS."""


def ascending(names: npt.ArrayLike, count: int) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64] | None]:
    """`count` names, ascending, and the indices that made them so (None where there are fewer than two).

    Raises:
        ValueError: there are more or fewer, one comes twice, or one has more than NAME_BITS.
    """
    numbers = np.ascontiguousarray(names, dtype=np.uint64)
    if numbers.shape != (count,):
        raise ValueError(f"expected {count} names, got {numbers.shape}")
    order, twice = None, False
    if count > 1:
        order = np.argsort(numbers, kind="stable").astype(np.int64, copy=False)
        numbers = numbers[order]
        twice = bool((numbers[1:] == numbers[:-1]).any())
    if twice or (count and numbers.item(-1) >> NAME_BITS):
        raise ValueError(f"names are different numbers below 2**{NAME_BITS}")
    return numbers, order
