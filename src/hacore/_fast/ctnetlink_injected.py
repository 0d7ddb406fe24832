"""What an injection came to: the counts of `ctnetlink.h` by name."""

from typing import Final, NamedTuple


class Injected(NamedTuple):
    """What one call of `Injector.inject` came to.

    | | |
    |---|---|
    | `inserted`, `updated`, `replaced`, `deleted` | rows, by what they came to in the end |
    | `displaced` | of the replaced: another entry had their reply tuple and had to go |
    | `absent` | deletes of what was not there; not counted as failed |
    | `yielded` | rows with `YIELD` that stayed out, as another entry has one of their tuples; not counted as failed |
    | `failed`, `full` | rows with an error; of these ENOMEM, the kernel's table is full |
    | `no_helper`, `no_labels`, `no_master`, `no_timeout` | rows whose optional part the kernel refused and that went in
      without |
    | `messages`, `sends`, `queries` | messages built, system calls to send them, entries asked for because something
      stood in the way |
    | `lost` | sends of which the kernel could not keep all answers; their rows were asked for again |
    """

    inserted: int
    updated: int
    replaced: int
    deleted: int
    displaced: int
    absent: int
    yielded: int
    failed: int
    full: int
    no_helper: int
    no_labels: int
    no_master: int
    no_timeout: int
    messages: int
    sends: int
    queries: int
    lost: int

    def as_dict(self) -> dict[str, int]:
        """All of it by name."""
        return self._asdict()

    def __repr__(self) -> str:
        return f"Injected({', '.join(f'{name}={value}' for name, value in self.as_dict().items() if value)})"


INJECTED_FIELDS: Final = Injected._fields
