"""`python -m hacore.lab.flow_server`: the far end of the lab's connections. Sends back whatever comes, and remembers
which translated ports it came from.

    TCP 7010    every byte back                         UDP 7011    each datagram back, and its source port after it
    TCP 21      "PORT h1,h2,h3,h4,p1,p2": a connection to there, which sends every byte back; other lines are answered
    ICMP        the kernel answers; the identifiers seen of each flow are remembered

A line "report" on standard input is answered with one JSON object.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import sys
from collections.abc import Callable

TCP_PORT, UDP_PORT, FTP_PORT, FTP_DATA_PORT = 7010, 7011, 21, 20
RECORD = struct.Struct("!IQ")
"""Flow and number: what every flow sends, and expects back, again and again."""
SOURCE_PORT = struct.Struct("!H")
ICMP_ECHO, ICMP_HEADER_BYTES, IP_HEADER_BYTES = 8, 8, 20


class Server:
    """All ends on one loop."""

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._ready: dict[int, Callable[[], None]] = {}
        self._open: dict[int, socket.socket] = {}
        self.identifiers: dict[int, set[int]] = {}
        for family, host in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
            self._listen(family, host, TCP_PORT, self._echo)
        self._listen(socket.AF_INET, "0.0.0.0", FTP_PORT, self._control)
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind(("0.0.0.0", UDP_PORT))
        self._add(udp, lambda: self._datagram(udp))
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        self._add(raw, lambda: self._echo_request(raw))

    def _add(self, sock: socket.socket, ready: Callable[[], None]) -> None:
        sock.setblocking(False)
        self._open[sock.fileno()] = sock
        self._ready[sock.fileno()] = ready
        self._poll.register(sock.fileno(), select.EPOLLIN)

    def _drop(self, sock: socket.socket) -> None:
        self._poll.unregister(sock.fileno())
        del self._ready[sock.fileno()], self._open[sock.fileno()]
        sock.close()

    def _listen(self, family: int, host: str, port: int, use: Callable[[socket.socket], None]) -> None:
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        sock.listen(4096)

        def accept() -> None:
            try:
                while True:
                    use(sock.accept()[0])
            except BlockingIOError:
                return

        self._add(sock, accept)

    def _echo(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def back() -> None:
            data = self._received(sock)
            if data:
                self._answer(sock, data)

        self._add(sock, back)

    def _answer(self, sock: socket.socket, data: bytes) -> None:
        try:
            sock.send(data)  # small, and the other side waits for it: it always fits
        except OSError:
            self._drop(sock)

    def _received(self, sock: socket.socket) -> bytes:
        try:
            data = sock.recv(65536)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""
        if not data:
            self._drop(sock)
        return data

    def _control(self, sock: socket.socket) -> None:
        pending = bytearray()

        def line() -> None:
            pending.extend(self._received(sock))
            while (end := pending.find(b"\r\n")) >= 0:
                said = bytes(pending[:end])
                del pending[: end + 2]
                if said.startswith(b"PORT "):
                    self._open_data(said[5:].decode("ascii"))
                self._answer(sock, b"200 " + said + b"\r\n")

        self._add(sock, line)

    def _open_data(self, place: str) -> None:
        numbers = place.split(",")
        data = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        data.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        data.bind(("0.0.0.0", FTP_DATA_PORT))
        data.settimeout(5)
        data.connect((".".join(numbers[:4]), int(numbers[4]) * 256 + int(numbers[5])))
        self._echo(data)

    def _datagram(self, sock: socket.socket) -> None:
        try:
            while True:
                data, address = sock.recvfrom(2048)
                sock.sendto(data + SOURCE_PORT.pack(address[1]), address)
        except OSError:
            return

    def _echo_request(self, sock: socket.socket) -> None:
        try:
            while True:
                packet = sock.recv(2048)[IP_HEADER_BYTES:]
                if len(packet) >= ICMP_HEADER_BYTES + RECORD.size and packet[0] == ICMP_ECHO:
                    (identifier,) = struct.unpack_from("!H", packet, 4)
                    flow, _number = RECORD.unpack_from(packet, ICMP_HEADER_BYTES)
                    self.identifiers.setdefault(flow, set()).add(identifier)
        except BlockingIOError:
            return

    def run(self) -> None:
        """Until standard input ends."""
        self._poll.register(sys.stdin.fileno(), select.EPOLLIN)
        while True:
            for fd, _events in self._poll.poll():
                if fd == sys.stdin.fileno():
                    if not os.read(fd, 4096):
                        return
                    seen = {flow: sorted(identifiers) for flow, identifiers in self.identifiers.items()}
                    say(json.dumps({"icmp": seen}))
                elif fd in self._ready:
                    self._ready[fd]()


def say(text: str) -> None:
    """A line for the lab."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> None:
    """Entry of the process."""
    server = Server()
    say("ready")
    server.run()


if __name__ == "__main__":
    main()
