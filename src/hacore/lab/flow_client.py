"""`python -m hacore.lab.flow_client SERVER4 SERVER6 OWN4 TCP TCP6 UDP ICMP FTP`: the near end of the lab's connections.

Every flow sends a numbered record, waits for it to come back, and goes on with the next a moment later. Prints "ready"
once each has had one back. A line "check" on standard input is answered, when each flow has had back a record that was
sent after it or `PATIENCE` seconds have passed, with one JSON object: {kind: {"total": n, "alive": n, "why": {...}}}.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import sys
import time
from collections import Counter
from typing import ClassVar

from hacore.lab.flow_server import FTP_PORT, RECORD, SOURCE_PORT, TCP_PORT, UDP_PORT, say

PACE = 0.25  # seconds between two records of a flow
TICK = 0.01
PATIENCE = 10.0  # longer than what TCP waits to send again after a few seconds without an answer
LOST_AFTER = 0.5  # a datagram that did not come back by then never will
FIRST_IDENTIFIER = 20_000


class Flow:
    """One flow. `problem` says why it is no longer one, "" while it is."""

    kind: ClassVar[str]

    def __init__(self, number: int, sock: socket.socket) -> None:
        self.number, self.sock = number, sock
        self.sent = self.received = 0
        self.sent_at = 0.0
        self.is_lost = False  # the last record, for good
        self.problem = ""
        sock.setblocking(False)

    def turn(self, now: float) -> None:
        """Send the next record if it is time."""
        if not self.problem and self.sent == self.received and now - self.sent_at >= PACE:
            self.send(now)

    def send(self, now: float) -> None:
        """The next record."""
        self.sent += 1
        self.sent_at = now
        try:
            self.put(RECORD.pack(self.number, self.sent))
        except BlockingIOError:
            self.sent -= 1
        except OSError as error:
            self.failed(error)

    def put(self, record: bytes) -> None:
        """Hand a record to the kernel."""
        self.sock.send(record)

    def failed(self, error: OSError) -> None:
        """What an error of the socket means."""
        self.problem = error.strerror or str(error)

    def ready(self) -> None:
        """Something came."""
        raise NotImplementedError


class Stream(Flow):
    """A TCP connection: every number, in order, or it is broken."""

    kind = "tcp"

    def __init__(self, number: int, sock: socket.socket, place: tuple[str, int] | None = None) -> None:
        super().__init__(number, sock)
        self._pending = b""
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if place is not None:
            sock.connect_ex(place)

    def ready(self) -> None:
        """Compare what came back with what was sent."""
        if self.problem:
            return
        try:
            data = self.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:
            self.failed(error)
            return
        if not data:
            self.problem = "closed by the server"
        self._pending += data
        while len(self._pending) >= self.length():
            self._compare(self._pending[: self.length()])
            self._pending = self._pending[self.length() :]

    def length(self) -> int:
        """Of the next record."""
        return RECORD.size

    def _compare(self, record: bytes) -> None:
        if record != self.expected():
            self.problem = "wrong data"
        self.received += 1

    def expected(self) -> bytes:
        """The next record."""
        return RECORD.pack(self.number, self.received + 1)


class Stream6(Stream):
    """The same over IPv6, which is not translated."""

    kind = "tcp6"


class Data(Stream):
    """An FTP data connection, which the server opened."""

    kind = "ftp data"


class Control(Stream):
    """An FTP control connection: numbered lines, whose places in the stream the helper has moved."""

    kind = "ftp control"

    def put(self, record: bytes) -> None:
        """A line with the number."""
        self.sock.send(b"NOOP %010d\r\n" % RECORD.unpack(record)[1])

    def length(self) -> int:
        """Of an answer."""
        return len(b"200 NOOP 0123456789\r\n")

    def expected(self) -> bytes:
        """The answer to the next line."""
        return b"200 NOOP %010d\r\n" % (self.received + 1)


class Unreliable(Flow):
    """Datagrams: some may be lost."""

    def __init__(self, number: int, sock: socket.socket, place: tuple[str, int]) -> None:
        super().__init__(number, sock)
        sock.connect(place)

    def turn(self, now: float) -> None:
        """A record that was lost is not waited for."""
        if self.sent != self.received and now - self.sent_at > LOST_AFTER:
            self.received, self.is_lost = self.sent, True
        super().turn(now)

    def failed(self, error: OSError) -> None:
        """Errors come and go with the path."""

    def came(self, count: int) -> None:
        """The record with this number is back."""
        if count == self.sent:
            self.received, self.is_lost = count, False


class Datagrams(Unreliable):
    """UDP: the server sees one source port for good."""

    kind = "udp"

    def __init__(self, number: int, sock: socket.socket, place: tuple[str, int]) -> None:
        super().__init__(number, sock, place)
        self._port = 0

    def ready(self) -> None:
        """An answer, with the port that the server saw."""
        try:
            while True:
                data = self.sock.recv(2048)
                _number, count = RECORD.unpack_from(data)
                (port,) = SOURCE_PORT.unpack_from(data, RECORD.size)
                if self._port not in (0, port):
                    self.problem = "translated to another port"
                self._port = port
                self.came(count)
        except OSError:
            return


class Echo(Unreliable):
    """ICMP echo; what identifiers the server saw is the server's to say."""

    kind = "icmp"

    def __init__(self, number: int, sock: socket.socket, place: tuple[str, int]) -> None:
        super().__init__(number, sock, place)
        self._identifier = FIRST_IDENTIFIER + number

    def put(self, record: bytes) -> None:
        """An echo request."""
        head = struct.pack("!BBHHH", 8, 0, 0, self._identifier, self.sent & 0xFFFF)
        self.sock.send(struct.pack("!BBHHH", 8, 0, checksum(head + record), *struct.unpack("!HH", head[4:])) + record)

    def ready(self) -> None:
        """An answer to this flow or to another one."""
        try:
            while True:
                packet = self.sock.recv(2048)[20:]
                if len(packet) < 8 + RECORD.size or packet[0] != 0:
                    continue
                number, count = RECORD.unpack_from(packet, 8)
                if number == self.number:
                    self.came(count)
        except OSError:
            return


def checksum(data: bytes) -> int:
    """Of RFC 1071."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


class Client:
    """All flows on one loop."""

    def __init__(self, server: str, server6: str, own: str) -> None:
        self._server, self._server6, self._own = server, server6, own
        self._poll = select.epoll()
        self.flows: list[Flow] = []
        self._by_fd: dict[int, Flow] = {}
        self._at = 0

    def add(self, flow: Flow) -> None:
        """From now on it sends."""
        self.flows.append(flow)
        self._by_fd[flow.sock.fileno()] = flow
        self._poll.register(flow.sock.fileno(), select.EPOLLIN)

    def open(self, tcp: int, tcp6: int, udp: int, icmp: int, ftp: int) -> None:
        """So many of each kind."""
        for _ in range(tcp):
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            self.add(Stream(len(self.flows), sock, (self._server, TCP_PORT)))
            self.turn(0.0)
        for _ in range(tcp6):
            sock = socket.socket(socket.AF_INET6, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            self.add(Stream6(len(self.flows), sock, (self._server6, TCP_PORT)))
        for _ in range(udp):
            place = (self._server, UDP_PORT)
            self.add(Datagrams(len(self.flows), socket.socket(socket.AF_INET, socket.SOCK_DGRAM), place))
        for _ in range(icmp):
            raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
            self.add(Echo(len(self.flows), raw, (self._server, 0)))
        for _ in range(ftp):
            self._open_ftp()

    def _open_ftp(self) -> None:
        control = socket.create_connection((self._server, FTP_PORT), timeout=5)
        with socket.create_server((self._own, 0)) as listening:
            port = listening.getsockname()[1]
            said = f"PORT {self._own.replace('.', ',')},{port // 256},{port % 256}\r\n".encode()
            control.send(said)
            listening.settimeout(5)
            data, _ = listening.accept()
        answer = b""
        while not answer.endswith(b"\r\n"):
            answer += control.recv(4096)
        self.add(Control(len(self.flows), control))
        self.add(Data(len(self.flows), data))

    def turn(self, wait: float = TICK) -> None:
        """Take what came within `wait`; let a part of the flows send."""
        for fd, _events in self._poll.poll(wait):
            if fd in self._by_fd:
                flow = self._by_fd[fd]
                flow.ready()
                if flow.problem and flow.sock.fileno() >= 0 and isinstance(flow, Stream):
                    self._poll.unregister(fd)
                    del self._by_fd[fd]
                    flow.sock.close()
        now = time.monotonic()
        share = max(1, round(len(self.flows) * TICK / PACE) + 1)
        for _ in range(min(share, len(self.flows))):
            self._at = (self._at + 1) % len(self.flows)
            self.flows[self._at].turn(now)

    def until_all(self, patience: float) -> list[Flow]:
        """Turns until each flow has had back a record that was sent after this call; those that have not."""
        marks = {flow.number: flow.sent for flow in self.flows}
        deadline = time.monotonic() + patience
        while True:
            left = [flow for flow in self.flows if flow.problem or flow.received <= marks[flow.number] or flow.is_lost]
            if not any(not flow.problem for flow in left) or time.monotonic() > deadline:
                return left
            for _ in range(10):
                self.turn()

    def check(self) -> dict[str, dict[str, object]]:
        """How many of each kind are alive, and why the others are not."""
        for flow in self.until_all(PATIENCE):
            flow.problem = flow.problem or "no answer"
        dead = {flow.number: flow.problem for flow in self.flows if flow.problem}
        found: dict[str, dict[str, object]] = {}
        for kind in dict.fromkeys(flow.kind for flow in self.flows):
            flows = [flow for flow in self.flows if flow.kind == kind]
            why = Counter(dead[flow.number] for flow in flows if flow.number in dead)
            found[kind] = {"total": len(flows), "alive": len(flows) - why.total(), "why": dict(why)}
        return found

    def run(self) -> None:
        """Until standard input ends."""
        stdin = sys.stdin.fileno()
        os.set_blocking(stdin, False)
        while True:
            self.turn()
            try:
                said = os.read(stdin, 4096)
            except BlockingIOError:
                continue
            if not said:
                return
            say(json.dumps(self.check()))


def main() -> None:
    """Entry of the process."""
    client = Client(*sys.argv[1:4])
    client.open(*map(int, sys.argv[4:9]))
    if left := client.until_all(PATIENCE):
        say(f"{len(left)} of {len(client.flows)} flows did not begin: {left[0].kind}, {left[0].problem}")
        return
    say("ready")
    client.run()


if __name__ == "__main__":
    main()
