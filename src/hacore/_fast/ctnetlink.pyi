from typing import Final, NoReturn, final

from numpy import int32, uint8, void
from numpy.typing import NDArray
from typing_extensions import Buffer

from hacore._fast.ctnetlink_injected import INJECTED_FIELDS as INJECTED_FIELDS
from hacore._fast.ctnetlink_injected import Injected as Injected

EVENT_DUMP: Final[int]
EVENT_NEW: Final[int]
EVENT_UPDATE: Final[int]
EVENT_DESTROY: Final[int]

HAS_STATE: Final[int]
HAS_TIMEOUT: Final[int]
HAS_LABELS: Final[int]
HAS_ADJUST: Final[int]
HAS_MASTER: Final[int]
HAS_SYNPROXY: Final[int]
HAS_HELPER: Final[int]
HAS_MARK: Final[int]
HAS_STATUS: Final[int]
HAS_ALL: Final[int]

INSERT: Final[int]
UPDATE: Final[int]
REPLACE: Final[int]
DELETE: Final[int]
GET: Final[int]
GET_BY_REPLY: Final[int]
WITH_LABELS: Final[int]
YIELD: Final[int]

RUNGS: Final[tuple[str, ...]]

@final
class Received:
    def __init__(self, *args: object, **kwargs: object) -> NoReturn: ...
    @property
    def rows(self) -> int: ...
    @property
    def expectations(self) -> int: ...
    @property
    def messages(self) -> int: ...
    @property
    def malformed(self) -> int: ...
    @property
    def skipped(self) -> int: ...
    @property
    def consumed(self) -> int: ...
    @property
    def first_malformed(self) -> int: ...
    @property
    def error(self) -> int: ...
    @property
    def done(self) -> bool: ...
    @property
    def interrupted(self) -> bool: ...
    @property
    def overrun(self) -> bool: ...
    @property
    def more(self) -> bool: ...

@final
class Reader:
    def __init__(
        self,
        rows: NDArray[void],
        events: NDArray[void],
        *,
        display: NDArray[void] | None = None,
        expectations: NDArray[void] | None = None,
        expectation_events: NDArray[void] | None = None,
        datagrams: int = 256,
        datagram_bytes: int = 4096,
    ) -> None: ...
    @property
    def malformed(self) -> dict[str, int]: ...
    @property
    def overruns(self) -> int: ...
    def receive(self, fileno: int) -> Received: ...

@final
class Injector:
    def __init__(
        self,
        fileno: int,
        *,
        batch_bytes: int = 131072,
        extra_timeout: int = 0,
        offload_timeout_tcp: int = 432000,
        offload_timeout_udp: int = 120,
    ) -> None: ...
    @property
    def extra_timeout(self) -> int: ...
    @extra_timeout.setter
    def extra_timeout(self, seconds: int) -> None: ...
    @property
    def batch_bytes(self) -> int: ...
    def inject(
        self, rows: NDArray[void], operations: NDArray[uint8] | None = None, errors: NDArray[int32] | None = None
    ) -> Injected: ...
    def inject_expectations(
        self,
        expectations: NDArray[void],
        operations: NDArray[uint8] | None = None,
        errors: NDArray[int32] | None = None,
    ) -> Injected: ...
    def inject_bare(self, messages: Buffer) -> int: ...

def parse(
    messages: Buffer,
    rows: NDArray[void],
    events: NDArray[void],
    *,
    display: NDArray[void] | None = None,
    expectations: NDArray[void] | None = None,
    expectation_events: NDArray[void] | None = None,
    offset: int = 0,
) -> Received: ...
def count_messages(messages: Buffer) -> int: ...
def complete(rows: NDArray[void], known: NDArray[void], events: NDArray[void]) -> None: ...
def build(
    rows: NDArray[void],
    operations: NDArray[uint8] | None = None,
    *,
    sequence: int = 1,
    extra_timeout: int = 0,
    offload_timeout_tcp: int = 432000,
    offload_timeout_udp: int = 120,
) -> bytes: ...
def build_expectations(expectations: NDArray[void], *, sequence: int = 1, delete: bool = False) -> bytes: ...
