"""The plug is pulled in the middle of a push: what the backup does with it when it is switched on again."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests.hosts.machine import Machine
from tests.hosts.pair import Pair
from tests.hosts.test_push import digests

pytestmark = pytest.mark.hosts

#: In the place of nft on the backup: new rules never get into force.
HANGING = """\
#!/bin/sh
if [ "$1" = --file ] && grep -q 8443 "$2"; then touch /run/apply-hangs; exec sleep 600; fi
exec /usr/sbin/nft "$@"
"""
LOOKED = """\
[Service]
ExecStartPre=/bin/sh -c "grep dport /etc/nftables.conf >/run/rules-at-boot; cat /proc/uptime >/run/rules-read"
"""


@pytest.fixture(autouse=True)
def in_sync(hosts: Pair) -> Iterator[None]:
    """fw1 is MASTER and fw2 as fw1 is, before and after."""

    def alike() -> bool:
        return hosts.fw1.shell("hacore config push").returncode == 0

    hosts.until_holds(hosts.fw1)
    hosts.until(alike, "a push succeeds")
    hosts.fw1.run("cp -a /etc/nftables.conf /root/")
    yield
    hosts.fw2.run("rm -f /usr/local/sbin/nft; rm -rf /etc/systemd/system/nftables.service.d; systemctl daemon-reload")
    hosts.fw1.run("mv /root/nftables.conf /etc/; rm -f /etc/dnsmasq.d/cut.conf")
    hosts.until(alike, "a push succeeds")


def pull_the_plug(hosts: Pair) -> None:
    """On fw2, when the files are swapped and their apply command hangs."""
    hosts.fw1.run("sed -i 's/dport { /dport { 8443, /; s/dport 22 /dport { 8443, 22 } /' /etc/nftables.conf")
    hosts.fw1.run("echo host-record=cut.example.net,192.168.10.53 >/etc/dnsmasq.d/cut.conf")
    hosts.fw2.write("/usr/local/sbin/nft", HANGING)
    hosts.fw2.write("/etc/systemd/system/nftables.service.d/look.conf", LOOKED)
    hosts.fw2.run("chmod 755 /usr/local/sbin/nft")
    pushing = hosts.fw1.popen("hacore config push", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        hosts.until(lambda: hosts.fw2.shell("test -e /run/apply-hangs").returncode == 0, "the apply command hangs")
        assert "8443" in hosts.fw2.run("cat /etc/nftables.conf")
        hosts.fw2.power_off()
    finally:
        pushing.kill()
        pushing.wait()


def unit(machine: Machine, name: str, of: str) -> int:
    return int(machine.run(f"systemctl show {name} --property={of} --value"))


def restarts(machine: Machine) -> int:
    """By pushes, since it was made."""
    return machine.run("hacore events --limit 1000").count("restarted (asked by a push)")


def test_the_boot_finds_the_old_files_and_the_node_tells_of_it(hosts: Pair) -> None:
    before, ruleset = digests(hosts.fw2), hosts.fw2.run("nft list chain inet firewall input")
    pushes = hosts.fw2.run("hacore config history").count("pushed by")
    restarted = restarts(hosts.fw2)
    pull_the_plug(hosts)
    assert "8443" in hosts.fw2.read("/etc/nftables.conf")
    hosts.power_on(hosts.fw2)
    fw2 = hosts.fw2
    assert "8443" not in fw2.run("cat /run/rules-at-boot"), "nftables started with the new rules"
    ended = unit(fw2, "hacore-recover", "ExecMainExitTimestampMonotonic")
    assert 0 < ended < unit(fw2, "nftables", "InactiveExitTimestampMonotonic")
    said = fw2.run("journalctl --boot --no-pager --output=cat --unit=hacore-recover")
    assert "was interrupted while applying: the files of rules, dns are put back" in said
    hosts.until_says(fw2, "hacore events --limit 50", "and is undone")
    assert "was interrupted while applying, and is undone" in fw2.run("hacore events --limit 50")
    assert digests(fw2) == before
    assert fw2.run("nft list chain inet firewall input") == ruleset
    assert fw2.shell("test -e /var/lib/hacore/config/journal.json").returncode == 1
    assert "an interrupted push" not in fw2.run("hacore status")
    assert restarts(fw2) == restarted, "dnsmasq has started with the old files"
    assert fw2.run("hacore config history").count("pushed by") == pushes
    status = hosts.fw1.shell("hacore config status")
    assert (status.returncode, "not in sync: fw2" in status.stdout) == (1, True), status.stdout


def test_a_boot_without_an_interrupted_push_looks_at_nothing(hosts: Pair) -> None:
    fw2 = hosts.fw2
    fw2.shut_down()
    hosts.power_on(fw2)
    shown = fw2.run("systemctl show hacore-recover --property=ConditionResult,ActiveState,ExecMainPID")
    assert set(shown.split()) == {"ConditionResult=no", "ActiveState=inactive", "ExecMainPID=0"}
    assert "nothing is to be put back" in fw2.run("hacore config recover")
