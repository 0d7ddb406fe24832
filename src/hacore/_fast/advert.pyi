from collections.abc import Buffer, Iterable, Sequence
