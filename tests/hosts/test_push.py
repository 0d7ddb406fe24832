"""Pairing, push and services between two Debian machines: nftables, dnsmasq and nginx as Debian has them."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from tests.hosts.machine import Machine
from tests.hosts.pair import Pair

pytestmark = pytest.mark.hosts

CALLER = """\
import socket, time
while True:
    try:
        connection = socket.create_connection(("198.51.100.254", 5001), 20)
    except OSError:
        time.sleep(0.1)
    else:
        time.sleep(600)
"""


@pytest.fixture(autouse=True)
def in_sync(hosts: Pair) -> None:
    """Each test begins with fw1 MASTER and fw2 as fw1 is."""
    hosts.until_holds(hosts.fw1)
    hosts.until(lambda: hosts.fw1.shell("hacore config push").returncode == 0, "a push succeeds")


def services(machine: Machine, *arguments: str) -> dict[str, dict[str, Any]]:
    listed = json.loads(machine.run(f"hacore services list --json {' '.join(arguments)}"))
    return {one["id"]: one for one in listed["services"]}


def digests(machine: Machine) -> dict[str, str]:
    """Of every file that is pushed."""
    listed = machine.run("find /etc/nftables.conf /etc/dnsmasq.d /etc/nginx -type f -exec sha256sum {} +")
    return {path: digest for digest, path in (line.split(maxsplit=1) for line in listed.splitlines())}


def resolves(pair: Pair, server: str, name: str) -> str:
    """What the client is told by a server; "" where that knows nothing or does not answer."""
    script = f"""
import socket, struct
name = b"".join(bytes([len(part)]) + part for part in {name!r}.encode().split(b"."))
asked = struct.pack(">6H", 7, 0x0100, 1, 0, 0, 0) + name + b"\\0" + struct.pack(">2H", 1, 1)
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
one.settimeout(2)
one.sendto(asked, ({server!r}, 53))
answer = one.recv(512)
if struct.unpack_from(">H", answer, 6)[0]:
    print(socket.inet_ntoa(answer[-4:]))
"""
    done = pair.client.python("-c", script)
    return done.stdout.strip() if done.returncode == 0 else ""


def connects(pair: Pair, address: str, port: int) -> bool:
    done = pair.client.python("-c", f"import socket; socket.create_connection(({address!r}, {port}), 2)")
    return done.returncode == 0


def test_both_trust_each_other_and_replicate(hosts: Pair) -> None:
    for machine, other in ((hosts.fw1, "fw2"), (hosts.fw2, "fw1")):
        assert other in machine.run("hacore pair list")
        hosts.until_says(machine, "hacore states show", "stream")
    listener = "import socket; s = socket.create_server(('198.51.100.254', 5001)); c, _ = s.accept(); c.recv(1)"
    with (
        subprocess.Popen(["ip", "netns", "exec", hosts.upstream.name, "python3", "-c", listener]) as server,
        subprocess.Popen(["ip", "netns", "exec", hosts.client.name, "python3", "-c", CALLER]) as client,
    ):
        try:
            wanted = "dport=5001"
            hosts.until_says(hosts.fw1, "conntrack -L 2>/dev/null", wanted)
            hosts.until_says(hosts.fw2, "conntrack -L 2>/dev/null", wanted)
        finally:
            client.kill()
            server.kill()


def test_rules_and_a_record_reach_the_backup_by_one_command(hosts: Pair) -> None:
    hosts.fw1.run("echo host-record=printer.example.net,192.168.10.50 >/etc/dnsmasq.d/printer.conf")
    hosts.fw1.run("sed -i 's/tcp dport 22 accept/tcp dport { 22, 80 } accept/' /etc/nftables.conf")
    assert not connects(hosts, "192.168.10.3", 80)
    assert resolves(hosts, "192.168.10.3", "printer.example.net") == ""
    shown = hosts.fw1.shell("hacore config diff")
    assert shown.returncode == 1
    assert "printer.example.net" in shown.stdout
    assert "{ 22, 80 }" in shown.stdout
    hosts.fw1.run("hacore config push")
    assert "80" in hosts.fw2.run("nft list chain inet firewall input")
    assert connects(hosts, "192.168.10.3", 80)
    assert resolves(hosts, "192.168.10.3", "printer.example.net") == "192.168.10.50"
    assert digests(hosts.fw1) == digests(hosts.fw2)
    hosts.fw1.run("hacore config status")


def test_a_broken_file_is_refused_and_nothing_changes(hosts: Pair) -> None:
    before, ruleset = digests(hosts.fw2), hosts.fw2.run("nft list ruleset inet")
    since = services(hosts.fw2)["nginx"]["since"]
    hosts.fw1.run("echo 'server { listen 81; no such thing; }' >/etc/nginx/conf.d/broken.conf")
    hosts.fw1.run("echo host-record=new.example.net,192.168.10.51 >/etc/dnsmasq.d/new.conf")
    try:
        done = hosts.fw1.shell("hacore config push")
        assert done.returncode == 65, done.stdout
        assert "nginx" in done.stdout
        assert 'unknown directive "no"' in done.stdout
        assert digests(hosts.fw2) == before
        assert hosts.fw2.run("nft list ruleset inet") == ruleset
        assert services(hosts.fw2)["nginx"]["since"] == since
        assert resolves(hosts, "192.168.10.3", "new.example.net") == ""
    finally:
        hosts.fw1.run("rm /etc/nginx/conf.d/broken.conf")


def test_an_apply_command_that_fails_rolls_everything_back(hosts: Pair) -> None:
    """The rules pass `nft --check`; the command that puts them into force fails, on the backup alone."""
    before, ruleset = digests(hosts.fw2), hosts.fw2.run("nft list ruleset inet")
    hosts.fw1.run("echo host-record=late.example.net,192.168.10.52 >/etc/dnsmasq.d/late.conf")
    hosts.fw1.run(
        "sed -i 's/{ 22, 80 }/{ 22, 80, 443 }/; s/dport 22 accept/dport { 22, 443 } accept/' /etc/nftables.conf"
    )
    failing = '#!/bin/sh\nif [ "$1" = --file ] && grep -q 443 "$2"; then echo the wall is down; exit 9; fi\n'
    hosts.fw2.write("/usr/local/sbin/nft", f'{failing}exec /usr/sbin/nft "$@"\n')
    hosts.fw2.run("chmod 755 /usr/local/sbin/nft")
    try:
        done = hosts.fw1.shell("hacore config push")
        assert done.returncode == 73, done.stdout
        assert "the wall is down" in done.stdout
        assert digests(hosts.fw2) == before
        assert hosts.fw2.run("/usr/sbin/nft list ruleset inet") == ruleset
        assert resolves(hosts, "192.168.10.3", "late.example.net") == ""
        assert services(hosts.fw2)["dnsmasq"]["state"] == "running"
    finally:
        hosts.fw2.run("rm /usr/local/sbin/nft")


def test_a_service_that_does_not_start_rolls_everything_back(hosts: Pair) -> None:
    """The check finds nothing wrong, the restart does: the address cannot be bound."""
    before = digests(hosts.fw2)
    hosts.fw1.run("printf 'bind-interfaces\\nlisten-address=192.0.2.77\\n' >/etc/dnsmasq.d/bind.conf")
    try:
        done = hosts.fw1.shell("hacore config push")
        assert done.returncode != 0
        assert "192.0.2.77" in done.stdout, done.stdout
        assert digests(hosts.fw2) == before
        assert services(hosts.fw2)["dnsmasq"]["state"] == "running"
    finally:
        hosts.fw1.run("rm /etc/dnsmasq.d/bind.conf")


def test_a_service_that_did_not_run_does_not_run_after_a_roll_back(hosts: Pair) -> None:
    """dnsmasq does not start with its new files; nginx, which the push starts, was stopped."""
    hosts.fw2.run("systemctl stop nginx")
    hosts.fw1.run("printf 'bind-interfaces\\nlisten-address=192.0.2.77\\n' >/etc/dnsmasq.d/bind.conf")
    hosts.fw1.run("echo '# new' >/etc/nginx/conf.d/new.conf")
    try:
        done = hosts.fw1.shell("hacore config push")
        assert done.returncode != 0
        assert "192.0.2.77" in done.stdout, done.stdout
        found = services(hosts.fw2)
        assert (found["dnsmasq"]["state"], found["nginx"]["state"]) == ("running", "stopped")
        events = hosts.fw2.run("hacore events --limit 20")
        assert "nginx restarted (asked by a push)" in events
        assert "nginx stopped (asked by a push)" in events
    finally:
        hosts.fw1.run("rm /etc/dnsmasq.d/bind.conf /etc/nginx/conf.d/new.conf")
        hosts.fw2.run("systemctl start nginx")
