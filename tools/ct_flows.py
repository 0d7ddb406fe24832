"""Real connections through a real gateway: a network namespace that forwards and translates, and both its sides played
from raw sockets.

No address of a client or server exists anywhere, so there can be as many as one likes: the gateway sends everything to
the two cables' far ends by fixed neighbours, and there `Gateway` writes frames and answers those that come. Run as a
program, it fills a namespace that is there
already: `ip netns add NAME; python tools/ct_flows.py NAME --flows 10000`.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import Final, Self

sys.path.insert(0, str(Path(__file__).parent.parent))

from hacore.linux import libc
from tools import ct_packets
from tools.ct_packets import ACK, FIN, GRE, ICMP, ICMPV6, PSH, RST, SCTP, SYN, TCP, UDP, UDPLITE, Seen, Tuple

GATEWAY_MAC: Final = {"inside": bytes.fromhex("02000000fe01"), "outside": bytes.fromhex("02000000fe02")}
WIRE_MAC: Final = {"inside": bytes.fromhex("020000000001"), "outside": bytes.fromhex("020000000002")}
PUBLIC: Final = tuple(IPv4Address(f"203.0.113.{octet}") for octet in (1, 2, 3, 4))
PUBLIC_V6: Final = "2001:db8:fe::1"
SERVICE: Final = IPv4Address("203.0.113.80")  # translated to 10.9.9.9, for connections from outside
CLIENT_SEQUENCE, SERVER_SEQUENCE = 1_000_000, 5_000_000

RULESET: Final = """
table inet gateway {
    ct helper ftp-standard { type "ftp" protocol tcp; }
    ct helper sip-standard { type "sip" protocol udp; }
    ct helper tftp-standard { type "tftp" protocol udp; }
    chain before { type filter hook prerouting priority -150;
        tcp dport 21 ct helper set "ftp-standard"
        udp dport 5060 ct helper set "sip-standard"
        udp dport 69 ct helper set "tftp-standard"
    }
    chain zones { type filter hook prerouting priority -300;
        ip saddr 10.77.0.0/16 ct zone set 7
        ip daddr 198.18.77.0/24 ct original zone set 9
    }
    chain forward { type filter hook forward priority 0;
        tcp dport 8080 ct mark set 0x2a
        tcp dport 8443 ct label set 3
    }
    chain translate { type nat hook postrouting priority srcnat;
        oifname "outside" ip saddr 10.66.0.0/16 accept
        oifname "outside" ip saddr 10.0.0.0/8 ip daddr != 203.0.113.80 snat ip to 203.0.113.1-203.0.113.4
        oifname "outside" ip6 saddr fd66::/16 snat ip6 to 2001:db8:fe::1
    }
    chain publish { type nat hook prerouting priority dstnat;
        ip daddr 203.0.113.80 dnat ip to 10.9.9.9
    }
}
"""


def ip(namespace: str, *arguments: str) -> None:
    """Runs ip(8) for that namespace."""
    subprocess.run(["ip", "-n", namespace, *arguments], check=True, capture_output=True)


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """This thread works in that namespace."""
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    other = os.open(f"/run/netns/{namespace}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        libc.setns(other, libc.CLONE_NEWNET)
        yield
    finally:
        libc.setns(own, libc.CLONE_NEWNET)
        os.close(own)
        os.close(other)


class Gateway:
    """A namespace made into a gateway; `wire` is a second one that holds the far ends of its two cables. Both are the
    caller's."""

    def __init__(self, namespace: str, wire: str, ruleset: str = RULESET) -> None:
        self.namespace, self.wire = namespace, wire
        for side in ("inside", "outside"):
            ip(wire, "link", "add", side, "type", "veth", "peer", "name", side, "netns", namespace)
            for place, mac in ((wire, WIRE_MAC[side]), (namespace, GATEWAY_MAC[side])):
                ip(place, "link", "set", side, "address", mac.hex(":"), "arp", "off" if place == wire else "on")
                ip(place, "link", "set", side, "addrgenmode", "none", "up")
        for side, address, next_hop, far in (
            ("inside", "192.0.2.1/30", "192.0.2.2", ("10.0.0.0/8",)),
            ("outside", "192.0.2.5/30", "192.0.2.6", ("default",)),
            ("inside", "2001:db8:1::1/64", "2001:db8:1::2", ("fd00::/8", "2001:db8:100::/40")),
            ("outside", "2001:db8:2::1/64", "2001:db8:2::2", ("default",)),
        ):
            ip(namespace, "addr", "add", address, "dev", side, *(("nodad",) if ":" in address else ()))
            ip(namespace, "neigh", "add", next_hop, "lladdr", WIRE_MAC[side].hex(":"), "dev", side, "nud", "permanent")
            for prefix in far:
                ip(namespace, "route", "add", prefix, "via", next_hop, "dev", side)
        with inside(namespace):
            for key in (
                "ipv4/ip_forward",
                "ipv6/conf/all/forwarding",
                "netfilter/nf_conntrack_acct",
                "netfilter/nf_conntrack_timestamp",
            ):
                Path(f"/proc/sys/net/{key}").write_text("1\n")
            Path("/proc/sys/net/ipv4/conf/all/rp_filter").write_text("0\n")
        subprocess.run(["ip", "netns", "exec", namespace, "nft", "-f", "-"], input=ruleset, text=True, check=True)
        self._sockets = {}
        for side in ("inside", "outside"):
            with inside(wire):
                self._sockets[side] = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
            self._sockets[side].setsockopt(socket.SOL_SOCKET, 33, 256 << 20)  # SO_RCVBUFFORCE
            with inside(wire):
                self._sockets[side].bind((side, 3))  # ETH_P_ALL

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the sockets; the namespaces are the caller's."""
        for opened in self._sockets.values():
            opened.close()

    def send(self, side: str, way: Tuple, carried: bytes) -> None:
        """One packet from that side to the gateway."""
        octets = ct_packets.frame(way, carried, WIRE_MAC[side], GATEWAY_MAC[side])
        while True:
            try:
                self._sockets[side].send(octets)
            except (BlockingIOError, OSError):
                time.sleep(0.0005)
            else:
                return

    def arrived(self, side: str) -> Iterator[Seen]:
        """What the gateway has sent to that side."""
        while True:
            try:
                octets, address = self._sockets[side].recvfrom(65536)
            except BlockingIOError:
                return
            if address[2] == 4 or octets[:6] != WIRE_MAC[side]:  # PACKET_OUTGOING
                continue
            if (seen := ct_packets.read(octets)) is not None:
                yield seen

    def expect(self, side: str, count: int, patience: float = 1.0) -> list[Seen]:
        """Waits for `count` packets on that side; gives what has come by then."""
        found: list[Seen] = []
        deadline = time.monotonic() + patience
        while len(found) < count and time.monotonic() < deadline:
            found += self.arrived(side)
            if len(found) < count:
                time.sleep(0.001)
        return found

    def talk(self, flows: Iterable[Tuple], *, origin: str = "inside", last: str = "established") -> dict[Tuple, Tuple]:
        """Lets each flow exchange packets through the gateway until it is `last`: "begun" (one packet), "answered",
        "established" or, TCP only, "closing" and "reset". Gives, for each flow that got through, its tuple as the far
        side saw it.
        """
        ways = list(flows)
        far = "outside" if origin == "inside" else "inside"
        passed: dict[Tuple, Tuple] = {}
        for batch in _batched(ways, 512):
            passed |= self._talk(batch, origin, far, last)
        return passed

    def _talk(self, ways: Sequence[Tuple], origin: str, far: str, last: str) -> dict[Tuple, Tuple]:
        self._round(origin, ways, _opening)
        passed = {way: came.way for way, came in _paired(ways, self.expect(far, len(ways)))}
        if last == "begun":
            return passed
        answers = [way.turned() for way in passed.values()]
        self._round(far, answers, _answer)
        self.expect(origin, len(passed))
        if last == "answered":
            return passed
        for side, other, directed, carry in (
            (origin, far, list(passed), _third), (far, origin, answers, _fourth), (origin, far, list(passed), _fifth)
        ):  # fmt: skip
            sent = self._round(side, directed, carry)
            self.expect(other, sent)
        if last in ("closing", "reset"):
            flags = FIN | ACK if last == "closing" else RST | ACK
            closing = ct_packets.tcp
            sent = self._round(
                origin,
                [way for way in passed if way.protocol == TCP],
                lambda way: closing(way, flags, CLIENT_SEQUENCE + 7, SERVER_SEQUENCE + 7),
            )
            self.expect(far, sent)
        return passed

    def _round(self, side: str, ways: Iterable[Tuple], carry: Callable[[Tuple], bytes | None]) -> int:
        """Sends what `carry` makes of each, and tells how many packets that were."""
        sent = 0
        for way in ways:
            carried = carry(way)
            if carried is not None:
                self.send(side, way, carried)
                sent += 1
        return sent


def _batched(ways: Sequence[Tuple], size: int) -> Iterator[Sequence[Tuple]]:
    for start in range(0, len(ways), size):
        yield ways[start : start + size]


def _paired(ways: Sequence[Tuple], seen: Sequence[Seen]) -> Iterator[tuple[Tuple, Seen]]:
    """Which came of which: the gateway keeps the order, and may swallow some."""
    remaining = iter(ways)
    for came in seen:
        for way in remaining:
            same = way.destination == came.way.destination or way.destination[:3] == SERVICE.packed[:3]
            if same and way.protocol == came.way.protocol and way.destination_port == came.way.destination_port:
                yield way, came
                break


def _opening(way: Tuple) -> bytes:
    if way.protocol == TCP:
        return ct_packets.tcp(way, SYN, CLIENT_SEQUENCE, scale=7 + way.source_port % 4)
    if way.protocol == SCTP:
        return ct_packets.sctp_init(way, 0, 0xC11E4710, answer=False)
    return ct_packets.segment(way)


def _answer(way: Tuple) -> bytes:
    if way.protocol == TCP:
        return ct_packets.tcp(way, SYN | ACK, SERVER_SEQUENCE, CLIENT_SEQUENCE + 1, scale=9)
    if way.protocol == SCTP:
        return ct_packets.sctp_init(way, 0xC11E4710, 0x5E4E4710, answer=True)
    return ct_packets.segment(way)


def _third(way: Tuple) -> bytes | None:
    if way.protocol == TCP:
        return ct_packets.tcp(way, ACK | PSH, CLIENT_SEQUENCE + 1, SERVER_SEQUENCE + 1, b"hello\n")
    if way.protocol == SCTP:
        return ct_packets.sctp(way, 0x5E4E4710, ct_packets.SCTP_COOKIE_ECHO, b"cookie!!")
    return ct_packets.segment(way)


def _fourth(way: Tuple) -> bytes | None:
    if way.protocol == TCP:
        return ct_packets.tcp(way, ACK | PSH, SERVER_SEQUENCE + 1, CLIENT_SEQUENCE + 7, b"hello\n")
    if way.protocol == SCTP:
        return ct_packets.sctp(way, 0xC11E4710, ct_packets.SCTP_COOKIE_ACK, b"")
    return None


def _fifth(way: Tuple) -> bytes | None:
    return ct_packets.tcp(way, ACK, CLIENT_SEQUENCE + 7, SERVER_SEQUENCE + 7) if way.protocol == TCP else None


def flow(protocol: int, source: str, destination: str, source_port: int = 0, destination_port: int = 0) -> Tuple:
    """A tuple out of addresses in text; ICMP asks for an echo with `source_port` as its id."""
    if protocol in (ICMP, ICMPV6):
        destination_port = (8 if protocol == ICMP else 128) << 8
    return Tuple(protocol, ip_address(source).packed, ip_address(destination).packed, source_port, destination_port)


def mixed_flows(count: int) -> Iterator[Tuple]:
    """`count` flows from many inner addresses and ports to many outer ones: 70 % TCP, 20 % UDP, the rest of everything
    else; a fifth IPv6."""
    kinds = (TCP, TCP, TCP, UDP, TCP, TCP, ICMP, TCP, UDP, TCP, TCP, UDP, SCTP, TCP, TCP, GRE, TCP, UDP, UDPLITE, TCP)
    for index in range(count):
        kind = kinds[index % len(kinds)]
        v6 = index // len(kinds) % 5 == 4
        if v6 and kind == ICMP:
            kind = ICMPV6
        host, port = index % 20_000, 32_768 + (index * 7) % 28_000
        target = 443 if index % 3 else 80
        if kind == GRE:
            port = target = 0
        if kind == GRE and not v6:
            yield flow(
                kind, f"10.0.{index // 250 % 250}.{1 + index % 250}", f"198.19.{index // 250 % 250}.{1 + index % 250}"
            )
        elif v6:
            yield flow(
                kind, f"fd{index % 2 * 0x66:02x}::{host + 1:x}", f"2001:db8:ff::{index // 20_000 + 1:x}", port, target
            )
        else:
            source = f"10.{1 + host // 65_025}.{host // 255 % 255}.{1 + host % 255 % 254}"
            yield flow(kind, source, f"198.51.{100 + index // 20_000 % 100}.{1 + index % 200}", port, target)


def line(gateway: Gateway, way: Tuple, side: str, sequence: int, acknowledged: int, text: bytes) -> int:
    """Sends one line of a TCP connection from that side; gives the sequence number after it."""
    gateway.send(side, way, ct_packets.tcp(way, ACK | PSH, sequence, acknowledged, text))
    return sequence + len(text)


def ftp_session(
    gateway: Gateway, client: str = "10.0.0.2", server: str = "198.51.100.21", port: int = 34_000
) -> tuple[Tuple, Tuple]:
    """An FTP control connection in which the client has said PORT, so that the server is expected to connect: the
    control connection as the client sees it, and the data connection as the server will open it.
    """
    control = flow(TCP, client, server, port, 21)
    outer = gateway.talk([control])[control]
    sequence, acknowledged = CLIENT_SEQUENCE + 7, SERVER_SEQUENCE + 7
    for text in (b"USER anonymous\r\n", f"PORT {client.replace('.', ',')},200,10\r\n".encode()):
        sequence = line(gateway, control, "inside", sequence, acknowledged, text)
    said = [seen.carried for seen in gateway.expect("outside", 2) if b"PORT" in seen.carried]
    numbers = [int(number) for number in said[0].split(b"PORT ")[1].strip().split(b",")]
    data = Tuple(TCP, outer.destination, bytes(numbers[:4]), 20, numbers[4] * 256 + numbers[5])
    return control, data


def sip_register(gateway: Gateway, client: str = "10.0.0.3", server: str = "198.51.100.50") -> None:
    """A phone registers: calls from the server are expected, but inactive until `sip_answer`."""
    way = flow(UDP, client, server, 5060, 5060)
    register = (
        f"REGISTER sip:{server} SIP/2.0\r\nVia: SIP/2.0/UDP {client}:5060;branch=z9hG4bK0\r\n"
        f"From: <sip:alice@{client}>;tag=0\r\n"
        f"To: <sip:alice@{client}>\r\nCall-ID: 0@{client}\r\nCSeq: 1 REGISTER\r\nContact: <sip:alice@{client}:5060>\r\n"
        "Expires: 3600\r\nContent-Length: 0\r\n\r\n"
    )
    gateway.send("inside", way, ct_packets.udp(way, register.encode()))


def sip_answer(gateway: Gateway) -> Tuple:
    """The server accepts what `sip_register` asks for; its answer's way, on which it could call the phone."""
    (asked,) = gateway.expect("outside", 1, 5.0)
    lines = asked.carried[8:].decode().split("\r\n")
    names = ("Via", "From", "To", "Call-ID", "CSeq", "Contact", "Expires")
    said = [next(line for line in lines if line.startswith(name)) for name in names]
    text = "\r\n".join(["SIP/2.0 200 OK", *said, "Content-Length: 0", "", ""])
    back = asked.way.turned()
    gateway.send("outside", back, ct_packets.udp(back, text.encode()))
    gateway.expect("inside", 1, 5.0)
    return back


def sip_session(gateway: Gateway, client: str = "10.0.0.3", server: str = "198.51.100.50") -> Tuple:
    """A SIP dialogue begun by an INVITE with SDP, so that signalling and media are expected; the flow as the client
    sees it."""
    way = flow(UDP, client, server, 5060, 5060)
    sdp = (
        f"v=0\r\no=a 1 1 IN IP4 {client}\r\ns=-\r\nc=IN IP4 {client}\r\nt=0 0\r\n"
        "m=audio 20000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
    )
    head = (
        f"INVITE sip:bob@{server} SIP/2.0\r\nVia: SIP/2.0/UDP {client}:5060;branch=z9hG4bK1\r\nMax-Forwards: 70\r\n"
        f"From: <sip:alice@{client}>;tag=1\r\nTo: <sip:bob@{server}>\r\nCall-ID: 1@{client}\r\nCSeq: 1 INVITE\r\n"
        f"Contact: <sip:alice@{client}:5060>\r\nContent-Type: application/sdp\r\nContent-Length: {len(sdp)}\r\n\r\n"
    )
    sip_register(gateway, client, server)
    gateway.expect("outside", 1)
    gateway.send("inside", way, ct_packets.udp(way, (head + sdp).encode()))
    gateway.expect("outside", 1)
    return way


def main() -> None:
    """Makes a namespace a gateway and fills its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("namespace", help="an empty network namespace (ip netns add)")
    parser.add_argument("--flows", type=int, default=1000)
    parser.add_argument(
        "--last", choices=("begun", "answered", "established", "closing", "reset"), default="established"
    )
    options = parser.parse_args()
    wire = f"{options.namespace}-wire"
    subprocess.run(["ip", "netns", "add", wire], check=True)
    try:
        with Gateway(options.namespace, wire) as gateway:
            start = time.monotonic()
            passed = gateway.talk(mixed_flows(options.flows), last=options.last)
            took = time.monotonic() - start
            print(f"{len(passed)} of {options.flows} flows through {options.namespace} in {took:.1f} s")
    finally:
        subprocess.run(["ip", "netns", "del", wire], check=False)


if __name__ == "__main__":
    main()
