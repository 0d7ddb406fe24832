"""Room in the kernel's connection tables, whose limits all network namespaces share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hacore.errors import HacoreError, PlatformError
from hacore.linux import conntrack, termination

LIMIT, BUCKETS = "nf_conntrack_max", "nf_conntrack_buckets"


@contextmanager
def room_for(states: int) -> Iterator[None]:
    """The limits are at least this, with a hash table as large; as before afterwards.

    Raises:
        HacoreError: they are lower, and this process may not raise them.
    """
    before: dict[str, int] = {}
    try:
        for name in (BUCKETS, LIMIT):
            found = conntrack.sysctl(name)
            if found >= states:
                continue
            before[name] = found  # first: an interruption may come while it is set
            try:
                conntrack.set_sysctl(name, states)
            except PlatformError as error:
                del before[name]
                if name == LIMIT:
                    raise HacoreError(
                        f"the kernel takes {found} connections, {states} are needed: "
                        f"sysctl -w net.netfilter.{LIMIT}={states}"
                    ) from error
        yield
    finally:
        with termination.ignored():
            for name, value in before.items():
                conntrack.set_sysctl(name, value)
