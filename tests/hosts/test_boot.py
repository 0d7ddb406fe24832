"""The pair as the guide leaves it: services of systemd, virtual addresses, and what happens when a machine is gone."""

from __future__ import annotations

import pytest

from tests.hosts.pair import Pair

pytestmark = pytest.mark.hosts


def test_hacore_runs_as_a_service_of_systemd(hosts: Pair) -> None:
    for machine in hosts.machines.values():
        shown = machine.run("systemctl show hacore --property=ActiveState,SubState,Type,NRestarts")
        assert set(shown.split()) == {"ActiveState=active", "SubState=running", "Type=notify", "NRestarts=0"}
        assert machine.run("cat /proc/1/comm").strip() == "systemd"


def test_one_holds_the_addresses_and_carries_the_traffic(hosts: Pair) -> None:
    hosts.until_holds(hosts.fw1)
    hosts.until(hosts.client_reaches_upstream, "the client reaches the upstream router")


def test_the_other_takes_over_when_the_plug_is_pulled_and_hands_back(hosts: Pair) -> None:
    hosts.fw1.power_off()
    hosts.until_holds(hosts.fw2)
    hosts.until(hosts.client_reaches_upstream, "the client reaches the upstream router through fw2")
    hosts.power_on(hosts.fw1)
    hosts.until_holds(hosts.fw1)
    hosts.until(hosts.client_reaches_upstream, "the client reaches the upstream router through fw1 again")
