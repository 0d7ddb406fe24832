"""What hosts of the LAN get from the pair as the guide has it set up: names, and addresses from either node."""

from __future__ import annotations

import subprocess

import pytest

from tests.hosts.pair import Pair

pytestmark = pytest.mark.hosts
#: Asks for an address as a host without one does; says each server that offers one, its gateway and its DNS server.
DISCOVER = """
import socket, struct
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for option, value in ((socket.SO_REUSEADDR, 1), (socket.SO_BROADCAST, 1), (socket.SO_BINDTODEVICE, b"lan")):
    one.setsockopt(socket.SOL_SOCKET, option, value)
one.bind(("", 68))
one.settimeout(15)
client = bytes([2, 0, 0, 0, 0, 1]).ljust(16, bytes(1))
head = struct.pack("!BBBBIHH16x", 1, 1, 6, 0, 0x68610001, 0, 0x8000) + client + bytes(192)
options = bytes([0x63, 0x82, 0x53, 0x63, 53, 1, 1, 55, 2, 3, 6, 255])
one.sendto(head + options, ("255.255.255.255", 67))
offers = set()
while len(offers) < 2:
    options, found = one.recv(1500)[240:], {}
    while options and options[0] != 255:
        found[options[0]], options = options[2 : 2 + options[1]], options[2 + options[1] :]
    offers.add(" ".join(socket.inet_ntoa(found[code]) for code in (54, 3, 6)))
print(*sorted(offers), sep=chr(10))
"""
#: Asks the virtual address for that of `localhost`, and says it.
RESOLVE = """
import socket, struct
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
one.settimeout(15)
one.connect(("192.168.10.1", 53))
one.send(struct.pack("!6H", 1, 0x100, 1, 0, 0, 0) + bytes([9]) + b"localhost" + struct.pack("!BHH", 0, 1, 1))
print(socket.inet_ntoa(one.recv(512)[-4:]))
"""


def _ask(pair: Pair, program: str) -> list[str]:
    command = ["ip", "netns", "exec", pair.client.name, "python3", "-c", program]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()


def test_either_node_resolves_names_and_both_offer_addresses(hosts: Pair) -> None:
    hosts.until_holds(hosts.fw1)
    hosts.follow("11. DHCP and DNS")
    assert _ask(hosts, RESOLVE) == ["127.0.0.1"]
    assert _ask(hosts, DISCOVER) == [f"192.168.10.{own} 192.168.10.1 192.168.10.1" for own in (2, 3)]
    hosts.fw1.run("hacore maintenance enter")
    hosts.until_holds(hosts.fw2)
    assert _ask(hosts, RESOLVE) == ["127.0.0.1"]
    hosts.fw1.run("hacore maintenance leave")
    hosts.until_holds(hosts.fw1)
