"""Templates, own settings, the plan, the guards, and the stream of contents."""

from __future__ import annotations

import hashlib
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hacore.configsync import own_settings
from hacore.configsync.guards import OVERRIDES, receiver_objections, sender_objections, standing
from hacore.configsync.manifest import BadManifest
from hacore.configsync.plan import AFTER_CRASH, NEXT, STEPS, Plan
from hacore.configsync.stream import HEAD, StreamReader, head, stream_bytes
from hacore.configsync.templates import TemplateError, product, resolve
from hacore.errors import LocalProtocolError, WireError

# Templates


def test_templates() -> None:
    variables = {"a": "1", "b_2": "{{ a }}"}
    assert resolve("/x", b"{{ a }} {{b_2}} {{a b}} {{}} { { a } }", variables) == b"1 {{ a }} {{a b}} {{}} { { a } }"
    with pytest.raises(TemplateError, match=r"template /x: .* lack c \(line 2\), d \(line 3\)"):
        resolve("/x", b"{{ a }}\n{{ c }}\n{{ d }}{{ c }}", variables | {})
    assert product("/etc/own.template") == "/etc/own"


# Own settings


def test_projection_and_what_is_received() -> None:
    here = {
        "vip": [
            {"name": "a", "vhid": 1, "advskew": 200, "advskew_step": 100, "peer": "192.0.2.2"},
            {"name": "mine", "vhid": 2, "sync": False},
            {"name": "theirs", "vhid": 3},
        ]
    }
    there = {"vip": [{"name": "a", "vhid": 9, "peer": "192.0.2.1"}, {"name": "theirs", "vhid": 4, "sync": False}]}
    local = own_settings.local_names(there)
    assert local == {"vip": ["theirs"]}
    wanted = own_settings.for_peer("vips", here, local)
    assert wanted == {"vip": [{"name": "a", "vhid": 1, "advskew": 254, "advskew_step": 100, "unicast": [4]}]}
    raised = own_settings.raised_there(here, {})
    made = own_settings.received("vips", wanted, there, raised)
    assert made["vip"][0] == {
        "name": "a", "vhid": 1, "advskew": 254, "advskew_raised": 54, "advskew_step": 100, "peer": "192.0.2.1",
    }  # fmt: skip
    assert own_settings.shared("vips", made) == wanted
    with pytest.raises(own_settings.NodeLocalMissing, match='vip "a" is unicast'):
        own_settings.received("vips", wanted, {"vip": []})


def test_advskew_goes_back_as_it_was_to_the_node_that_is_preferred() -> None:
    def pushed(here: own_settings.Table, there: own_settings.Table) -> dict[str, int]:
        tables, not_raised = {"vip": [{"name": "a", **here}]}, own_settings.not_raised({"vip": [there]})
        wanted = own_settings.for_peer("vips", tables, {}, not_raised)
        raised = own_settings.raised_there(tables, not_raised)
        (made,) = own_settings.received("vips", wanted, {"vip": [there]}, raised)["vip"]
        return {key: value for key, value in made.items() if key != "name"}

    raised = {"advskew": 120, "advskew_raised": 100}
    assert pushed({"advskew": 20}, {"name": "a", "advskew": 20}) == raised
    assert pushed(raised, {"name": "a", "advskew": 20}) == {"advskew": 20}
    assert pushed(raised, {"name": "a", **raised}) == {"advskew": 220, "advskew_raised": 200}, "a backup of the backup"
    assert pushed(raised, {"name": "another"}) == {"advskew": 220, "advskew_raised": 200}
    assert pushed({"advskew": 120}, {"name": "a", "advskew": 20}) == {"advskew": 20}, "by hand, as by a push"
    assert pushed({"advskew": 120}, {"name": "a", "advskew": 30}) == {"advskew": 220, "advskew_raised": 100}
    own_settings.check_raised({"vip": [{"name": "a", "advskew": 254, "advskew_step": 0}]})
    with pytest.raises(BadManifest, match='vip "a": advskew is 254 here'):
        own_settings.check_raised({"vip": [{"name": "a", "advskew": 254, "advskew_step": 100}]})


def test_intervals_at_advbase_0() -> None:
    assert own_settings.interval_ratio(0, 1, 1) == 2
    assert own_settings.interval_ratio(0, 1, 2) == 3
    assert own_settings.interval_ratio(0, 2, 1) == 1.5
    assert own_settings.interval_ratio(1, 0, 100) < 2


SCALARS = st.one_of(st.text(st.characters(exclude_categories=["Cs"])), st.integers(-(2**53), 2**53), st.booleans())
VALUES = st.one_of(
    SCALARS,
    st.floats(allow_nan=False, allow_infinity=False),
    st.lists(st.text(st.characters(exclude_categories=["Cs"]))),
)
TABLES = st.lists(st.dictionaries(st.from_regex(r"[a-z][a-z0-9_]{0,10}", fullmatch=True), VALUES), max_size=3)


@given(TABLES, TABLES, TABLES)
def test_the_file_says_what_it_was_given(vips: list[Any], sections: list[Any], services: list[Any]) -> None:
    parts = {"vips": {"vip": vips}, "sections": {"section": sections, "service": services}}
    for name, tables in parts.items():
        own_settings.check_tables(name, tables)
    text = own_settings.synced_text("fw1", parts)
    assert own_settings.parts_of(tomllib.loads(text)) == parts
    assert own_settings.synced_text("fw1", {}) == ""


@pytest.mark.parametrize(
    "tables",
    [{"node": [{"name": "x"}]}, {"vip": [{"a = 1\n[node]": 1}]}, {"vip": [{"a": {"b": 1}}]}, {"vip": [{"a": [[1]]}]},
     {"vip": [{"a": float("nan")}]}, {"vip": [{"a": None}]}],
)  # fmt: skip
def test_what_no_file_may_hold(tables: own_settings.Tables) -> None:
    with pytest.raises(BadManifest):
        own_settings.check_tables("vips", tables)


# The plan


def test_every_step_has_a_way_out() -> None:
    assert set(NEXT) == set(AFTER_CRASH) == set(STEPS)
    for step in STEPS:
        plan = Plan(step)
        assert plan.ended == (step in ("done", "undone"))
        assert plan.touched == (step in ("swapping", "applying", "restarting", "verifying", "undoing"))
        if plan.touched and step != "undoing":
            plan.advance("undoing")
            plan.advance("undone")
        with pytest.raises(LocalProtocolError):
            plan.advance("opened")


# Guards


def test_guards() -> None:
    assert sender_objections("fw1", {"lan": "MASTER"}, "1", "fw2", "1") == []
    assert receiver_objections("fw2", {"lan": "BACKUP"}, "1", "fw1", "1", []) == []
    found = [
        *sender_objections("fw1", {"lan": "MASTER", "wan": "INIT"}, "1", "fw2", "2"),
        *receiver_objections("fw2", {"wan": "MASTER"}, "2", "fw1", "1", ["vips", "rules"]),
    ]
    assert [each.code for each in found] == [
        "not-master", "versions-differ", "peer-is-master", "versions-differ", "changed-there",
    ]  # fmt: skip
    assert found[0].message == "fw1 is not MASTER of wan (INIT)"
    assert found[-1].message == "the sections rules, vips changed on fw2 itself since the last push"
    assert all(each.override == OVERRIDES[each.code] for each in found)
    assert standing(found, list(OVERRIDES)) == []


# The stream


@given(st.lists(st.binary(max_size=50), unique=True, max_size=5), st.lists(st.integers(1, 60), min_size=1))
def test_contents_arrive_however_the_stream_is_cut(contents: list[bytes], cuts: list[int]) -> None:
    announced = {hashlib.sha256(data).hexdigest(): len(data) for data in contents}
    stream = b"".join(head(hashlib.sha256(data).hexdigest(), len(data)) + data for data in contents)
    assert len(stream) == stream_bytes(announced)
    reader = StreamReader(announced)
    found: dict[str, bytes] = {}
    position = number = 0
    while position < len(stream):
        size = cuts[number % len(cuts)]
        for part in reader.feed(stream[position : position + size]):
            assert part.first == (part.digest not in found)
            found[part.digest] = found.get(part.digest, b"") + bytes(part.data)
            assert part.last == (len(found[part.digest]) == announced[part.digest])
        position, number = position + size, number + 1
    reader.end()
    assert sorted(found.values()) == sorted(contents)


@given(st.binary(max_size=200))
def test_any_bytes_are_contents_or_an_error(data: bytes) -> None:
    reader = StreamReader({"ab" * 32: 5})
    try:
        for part in reader.feed(data):
            assert part.digest == "ab" * 32
        reader.end()
    except WireError:
        return
    assert len(data) == HEAD.size + 5
