"""SIGHUP on a running pair: what changes, and what must not."""

from __future__ import annotations

import signal

from tests.namespaces import Sniffer
from tests.oracle.carp import Parts, judge, parse_frame
from tests.running_node import RunningNode, Segment, await_master, vip, wan

OLD = ["10.1.0.1", "2001:db8:1::1"]
NEW = [*OLD, "10.1.0.9"]


def reload(node: RunningNode) -> None:
    """SIGHUP, and until it is done."""
    since = node.last_event()
    node.signal(signal.SIGHUP)
    node.until_event("reload", after=since)


def test_what_is_not_about_the_vip_leaves_it_alone(segment: Segment) -> None:
    first, second = segment.pair()
    before = [node.vip()["since"] for node in (first, second)]
    marks = [node.last_event() for node in (first, second)]

    for node in (first, second):
        reload(node)
    first.configure(vip(advskew=25), preempt=False)
    reload(first)
    first.until(lambda: first.vip()["advskew"] == 25)
    assert first.status()["node"]["preempt"] is False
    second.until(lambda: (second.vip()["master"] or {}).get("advskew") == 25)

    for node, mark in zip((first, second), marks, strict=True):
        assert node.transitions(after=mark) == []
    assert [node.state() for node in (first, second)] == ["MASTER", "BACKUP"]
    assert [round(node.vip()["since"], 1) for node in (first, second)] == [round(since, 1) for since in before]

    second.configure(vip(advskew=10))
    reload(second)
    await_master(second, first)
    assert second.vip()["reason"] == "preempting a slower master"


def test_wrong_settings_are_refused_and_the_old_ones_stay(segment: Segment) -> None:
    node = segment.node("fw1", 11)
    node.configure(vip())
    node.start()
    node.until_state("MASTER")
    since = node.last_event()
    node.configure(vip(advskew=300), vip("two", interface="dmz", vhid=2, addresses=["10.3.0.1/16"]))
    node.signal(signal.SIGHUP)
    refused = node.until_event("reload-refused", after=since)["text"]
    assert "advskew" in refused
    assert "dmz" in refused
    assert node.transitions(after=since) == []
    assert node.vip()["advskew"] == 20
    node.configure(vip(advskew=30))
    reload(node)
    node.until(lambda: node.vip()["advskew"] == 30)
    assert node.state() == "MASTER"


def test_a_vip_that_comes_and_one_that_goes(segment: Segment) -> None:
    nodes = segment.node("fw1", 11), segment.node("fw2", 12)
    for node, number in zip(nodes, (11, 12), strict=True):
        segment.connect(node.host, number, "wan")
        node.configure(vip(advskew=20 + number))
    segment.start_in_turn(*nodes)
    since = nodes[0].vip()["since"]
    for node, number in zip(nodes, (11, 12), strict=True):
        node.configure(vip(advskew=20 + number), wan(advskew=20 + number))
        reload(node)
    await_master(*nodes, name="wan")
    assert nodes[0].held(["10.2.0.1"])
    assert round(nodes[0].vip()["since"], 1) == round(since, 1)
    for node, number in zip(nodes, (11, 12), strict=True):
        node.configure(wan(advskew=20 + number))
        reload(node)
    for node in nodes:
        node.until(lambda node=node: [one["name"] for one in node.status()["vips"]] == ["wan"])  # type: ignore[misc]
        node.until(lambda node=node: "carp1.lan" not in node.host.ip("-o link"))  # type: ignore[misc]
        assert node.held(OLD) == set()
    assert [node.state("wan") for node in nodes] == ["MASTER", "BACKUP"]


def test_a_vip_that_cannot_have_its_device_leaves_the_others_alone(segment: Segment) -> None:
    node = segment.node("fw1", 11)
    node.host.ip("link add carp2.lan type veth peer name theirs")
    node.configure(vip())
    node.start()
    node.until_state("MASTER")
    since = node.last_event()
    node.configure(vip(), vip("two", vhid=2, addresses=["10.1.0.2/16"]))
    reload(node)
    told = node.until_event("device", after=since)["text"]
    assert told == "two: an interface named carp2.lan is there already and is not hacore's: rename or delete it"
    node.until(lambda: told in node.status()["node"]["warnings"])
    assert (node.vip("two")["state"], node.vip("two")["reason"]) == ("INIT", "no device for the addresses")
    node.host.ip("link del carp2.lan")
    node.ask("reload")
    node.until_state("MASTER", "two")
    assert node.transitions(after=since) == []
    assert node.status()["node"]["warnings"] == [one for one in node.status()["node"]["warnings"] if "carp2" not in one]
    assert len([event for event in node.events("device", after=since) if event["text"] == told]) == 1


def advertised(sniffer: Sniffer) -> set[str]:
    """Under which address lists the adverts seen since the last call verify."""
    payloads = [parts.payload for parts in map(parse_frame, sniffer.frames()) if isinstance(parts, Parts)]
    lists = {"old": OLD, "new": NEW}
    return {next((n for n, a in lists.items() if judge(b"secret", 1, a, one) == "valid"), "none") for one in payloads}


def test_an_address_that_is_added_to_one_node_after_the_other(segment: Segment) -> None:
    """While they differ the MASTER speaks under both lists, and never are there two that stay MASTER."""
    first, second = segment.pair(rekey=3.0)
    marks = {node: node.last_event() for node in (first, second)}
    sniffer = Sniffer(segment.host("wire", 13), "lan")
    try:
        changed = ["10.1.0.1/16", "2001:db8:1::1/64", "10.1.0.9/16"]
        first.configure(vip(advskew=20, addresses=changed), rekey_time=3.0)
        reload(first)
        first.until(lambda: first.held(NEW) == set(NEW))
        await_master(first, second)
        sniffer.frames()
        first.until(lambda: advertised(sniffer) == {"old", "new"})

        second.configure(vip(advskew=40, addresses=changed), rekey_time=3.0)
        reload(second)
        second.until(lambda: len(second.vip()["addresses"]) == 3)
        await_master(first, second)
        assert second.held(NEW) == set()
        for node, mark in marks.items():
            assert node.events("other master", after=mark) == []

        first.until_event("rekey", after=marks[first])
        sniffer.frames()
        first.until(lambda: advertised(sniffer) == {"new"})
        rejected = second.counters()["badauth"]
        heard = second.counters()["ipackets"]
        second.until(lambda: second.counters()["ipackets"] >= heard + 5)
        assert second.counters()["badauth"] == rejected
        await_master(first, second)
    finally:
        sniffer.close()


def test_a_password_that_changes_on_one_node_after_the_other(segment: Segment) -> None:
    first, second = segment.pair(rekey=600.0)
    marks = {node: node.last_event() for node in (first, second)}
    for node, advskew in ((second, 40), (first, 20)):
        node.configure(vip(advskew=advskew, password="another"), rekey_time=600.0)
        reload(node)
        node.until(node.takes_part)
        await_master(first, second)
    for node, mark in marks.items():
        assert node.events("other master", after=mark) == []
    assert "MASTER" not in [state for state, _ in second.transitions(after=marks[second])[:1]]
