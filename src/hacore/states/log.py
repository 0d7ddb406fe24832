"""The log: encoded changes by position, bounded in bytes, read by any number of cursors."""

from __future__ import annotations


class Log:
    """Frames `first` to `last`, each with its position, in order."""

    first: int  # position of the oldest frame that is kept
    last: int  # position of the newest frame ever appended
    bytes_held: int
