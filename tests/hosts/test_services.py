"""Units of systemd over D-Bus, here and on the peer, and one that follows a VIP over a failover."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.hosts.machine import Machine
from tests.hosts.pair import Pair
from tests.hosts.test_push import services

pytestmark = pytest.mark.hosts

LINE = """\
[Service]
ExecStart=/bin/sleep infinity
ExecStop=/bin/sleep 1
"""
FAILING = """\
[Service]
ExecStart=/bin/sh -c "echo there is no carrier; exit 3"
Type=oneshot
"""
TABLES = """
[[service]]
id = "line"
unit = "line.service"
run_on = "MASTER"
vip = "wan"

[[service]]
id = "failing"
unit = "failing.service"

[[service]]
id = "ghost"
unit = "ghost.service"
"""


@pytest.fixture(scope="module")
def pair(hosts: Pair) -> Iterator[Pair]:
    """With three more services: one that follows a VIP, one that fails, one that is not there."""
    for machine in hosts.machines.values():
        machine.write("/etc/systemd/system/line.service", LINE)
        machine.write("/etc/systemd/system/failing.service", FAILING)
        machine.write("/etc/hacore/hacore.toml.d/90-services.toml", TABLES)
        machine.run("systemctl daemon-reload; systemctl reload hacore")
        hosts.until_says(machine, "hacore services list", "line")
    yield hosts
    for machine in hosts.machines.values():
        machine.run("rm /etc/hacore/hacore.toml.d/90-services.toml; systemctl reload hacore; systemctl stop line")


def runs(machine: Machine, unit: str) -> bool:
    return machine.shell(f"systemctl is-active --quiet {unit}").returncode == 0


def test_list_tells_state_and_since_when(pair: Pair) -> None:
    found = services(pair.fw1)
    assert [*found] == ["dnsmasq", "nginx", "line", "failing", "ghost"]
    assert (found["dnsmasq"]["state"], found["nginx"]["unit"]) == ("running", "nginx.service")
    assert (found["ghost"]["state"], found["ghost"]["since"]) == ("missing", None)
    shown = pair.fw1.run("systemctl show nginx --property=ActiveEnterTimestamp --timestamp=unix").strip()
    assert int(found["nginx"]["since"]) == int(shown.rpartition("@")[2])
    assert services(pair.fw1, "--peer", "fw2")["nginx"]["state"] == "running"


def test_stop_start_and_restart_wait_for_the_job(pair: Pair) -> None:
    for machine, where in ((pair.fw2, ""), (pair.fw2, "--peer fw2")):
        here = pair.fw1 if where else machine
        here.run(f"hacore services stop nginx {where}")
        assert not runs(machine, "nginx")
        assert services(machine)["nginx"]["state"] == "stopped"
        here.run(f"hacore services start nginx {where}")
        assert runs(machine, "nginx")
        pid = machine.run("systemctl show --property=MainPID --value nginx")
        here.run(f"hacore services restart nginx {where}")
        assert machine.run("systemctl show --property=MainPID --value nginx") != pid
    assert "nginx restarted (asked by fw1" in pair.fw2.run("hacore events --limit 20")


def test_a_failure_brings_the_journal(pair: Pair) -> None:
    done = pair.fw1.shell("hacore services start failing --peer fw2")
    assert done.returncode == 1
    assert "failing: not started: failing.service: failed: exit-code (job: failed)" in done.stdout
    assert "there is no carrier" in done.stdout
    assert "there is no carrier" in "\n".join(services(pair.fw2)["failing"]["log"])
    done = pair.fw1.shell("hacore services start ghost")
    assert (done.returncode, "systemd knows no unit ghost.service" in done.stdout) == (1, True)


def test_systemds_limit_of_starts_does_not_stand_in_the_way(pair: Pair) -> None:
    for _ in range(7):  # five in ten seconds are allowed where nobody asks for more
        done = pair.fw1.shell("hacore services restart dnsmasq --peer fw2")
        assert done.returncode == 0, done.stdout
    assert runs(pair.fw2, "dnsmasq")


def test_units_outside_the_settings_are_not_touched(pair: Pair) -> None:
    for name in ("dbus", "dbus.service", "systemd-journald", "nginx.service"):
        done = pair.fw1.shell(f"hacore services stop {name} --peer fw2")
        assert done.returncode == 64, done.stdout
    assert runs(pair.fw2, "dbus")


def test_restart_all_goes_on_after_a_failure_in_the_order_of_the_settings(pair: Pair) -> None:
    done = pair.fw1.shell("hacore services restart-all --sync")
    assert done.returncode == 1
    order = [line.split(":")[0] for line in done.stdout.splitlines() if line.split(":")[0] in services(pair.fw2)]
    assert order[:5] == ["dnsmasq", "nginx", "line", "failing", "ghost"]
    assert "fw2\nSERVICE" in done.stdout


def test_a_follower_is_where_the_vip_is(pair: Pair) -> None:
    pair.until(lambda: runs(pair.fw1, "line") and not runs(pair.fw2, "line"), "line runs on fw1 alone")
    pair.fw1.run("hacore maintenance enter")
    pair.until(lambda: runs(pair.fw2, "line") and not runs(pair.fw1, "line"), "line runs on fw2 alone")
    assert services(pair.fw1)["line"]["wanted"] is False
    done = pair.fw1.shell("hacore services start line")
    assert (done.returncode, "does not hold" in done.stdout) == (1, True)
    pair.fw1.run("hacore maintenance leave")
    pair.until(lambda: runs(pair.fw1, "line") and not runs(pair.fw2, "line"), "line is back on fw1")


def test_a_follower_ends_where_the_vip_is_whatever_happened_between(pair: Pair) -> None:
    """Its stop takes a second; the address comes and goes faster than that."""
    for _ in range(3):
        pair.fw1.run("hacore maintenance enter")
        time.sleep(0.4)
        pair.fw1.run("hacore maintenance leave")
        time.sleep(0.4)
    pair.until_holds(pair.fw1)
    pair.until(lambda: runs(pair.fw1, "line") and not runs(pair.fw2, "line"), "line runs on fw1 alone")


def test_a_follower_that_is_killed_or_whose_worker_is(pair: Pair) -> None:
    before = pair.fw1.run("systemctl show --property=MainPID --value line").strip()
    pair.fw1.run(f"kill -KILL {before}")
    pair.until(
        lambda: pair.fw1.run("systemctl show --property=MainPID --value line").strip() not in ("0", before),
        "line was started again",
    )
    pid = pair.fw1.run("systemctl show --property=MainPID --value line")
    worker = pair.status(pair.fw1)["node"]["workers"]["control"]["pid"]
    pair.fw1.run(f"kill -KILL {worker}")
    pair.until(lambda: pair.fw1.shell("hacore services list").returncode == 0, "the control worker is back")
    assert pair.status(pair.fw1)["node"]["workers"]["control"]["pid"] != worker
    assert pair.fw1.run("systemctl show --property=MainPID --value line") == pid


def test_the_end_of_the_node_stops_what_followed(pair: Pair) -> None:
    pair.fw1.run("systemctl stop hacore")
    assert not runs(pair.fw1, "line")
    assert runs(pair.fw1, "nginx")
    pair.until(lambda: runs(pair.fw2, "line"), "line runs on fw2")
    pair.fw1.run("systemctl start hacore")
    pair.until_holds(pair.fw1)
    pair.until(lambda: runs(pair.fw1, "line") and not runs(pair.fw2, "line"), "line is back on fw1")
