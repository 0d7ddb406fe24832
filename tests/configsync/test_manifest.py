"""Manifests: canonical bytes, and that what passes the rules stays inside the section."""

from __future__ import annotations

import difflib
import posixpath
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hacore.configsync.difference import changes, is_text, table_changes, unified
from hacore.configsync.manifest import (
    BadManifest,
    Entry,
    Manifest,
    check_links,
    check_manifest,
    decode,
    leads_outside,
    within,
)

ROOTS = ["/etc/a", "/etc/b.conf"]
PARTS = st.sampled_from(["etc", "a", "b.conf", "..", ".", "", "x", "y", "passwd", ".hacore-new-z"])
PATHS = st.one_of(
    st.lists(PARTS, max_size=6).map("/".join),
    st.lists(PARTS, max_size=4).map(lambda parts: "/etc/a/" + "/".join(parts)),
    st.text(max_size=20),
)
ENTRIES = st.builds(
    Entry,
    PATHS,
    st.sampled_from(["file", "folder", "link", "settings"]),
    st.integers(-1, 0o10000),
    st.sampled_from(["root", "#12", "", "a/b"]),
    st.just("root"),
    st.integers(-1, 1 << 40),
    st.sampled_from(["", "ab" * 32, "zz" * 32]),
    PATHS,
)


def test_bytes_are_canonical() -> None:
    one, two = Entry("/etc/a", "folder", 0o755, "root", "root"), Entry("/etc/a/x", "link", target="y")
    assert Manifest.of("s", [two, one]).encode() == Manifest.of("s", [one, two]).encode()
    assert decode(Manifest.of("s", [two, one]).encode()) == Manifest("s", (one, two))
    with pytest.raises(BadManifest):
        decode(b"{}x")


@given(st.lists(ENTRIES, max_size=4))
def test_what_passes_lies_in_the_section(entries: list[Entry]) -> None:
    manifest = Manifest.of("s", entries)
    try:
        check_manifest(manifest, ROOTS, {"/etc/a/own": "is kept"})
    except BadManifest:
        return
    for entry in entries:
        assert posixpath.normpath(entry.path) == entry.path
        assert within(entry.path, ROOTS)
        assert not within(entry.path, ["/etc/a/own"])
        parent = posixpath.dirname(entry.path)
        assert entry.path in ROOTS or manifest.by_path[parent].kind == "folder"


@given(st.lists(PARTS.filter(bool), max_size=4).map("/".join), st.lists(PARTS, max_size=6).map("/".join))
def test_a_link_that_stays_inside_stays_inside(place: str, target: str) -> None:
    entry = Entry(posixpath.normpath(f"/etc/a/{place}"), "link", target=target or ".")
    if not within(entry.path, ROOTS) or leads_outside(entry, ROOTS):
        return
    reached = posixpath.normpath(posixpath.join(posixpath.dirname(entry.path), entry.target))
    assert within(reached, ROOTS)


def test_a_link_that_stands_there_already_may_lead_outside() -> None:
    link = Entry("/etc/a/x", "link", target="/usr/share/x")
    check_links(Manifest("s", (link,)), Manifest("s", (link,)), ROOTS)
    with pytest.raises(BadManifest, match="leads out of the section s, to /usr/share/x"):
        check_links(Manifest("s", (link,)), Manifest("s"), ROOTS)


def test_changes_name_what_differs() -> None:
    old = Manifest.of("s", [Entry("/a", "file", 0o644, "root", "root", 1, "aa"), Entry("/b", "folder")])
    new = Manifest.of("s", [Entry("/a", "file", 0o600, "root", "root", 1, "aa"), Entry("/c", "folder")])
    found = changes(old, new)
    assert [(each.path, each.what, each.fields) for each in found] == [
        ("/a", "changed", ("mode",)),
        ("/b", "removed", ()),
        ("/c", "added", ()),
    ]


def test_texts_and_others() -> None:
    shown = unified("/a", b"one\ntwo", b"one\n2", "fw2", "fw1")
    assert shown.splitlines()[:2] == ["--- fw2:/a", "+++ fw1:/a"]
    assert "-two\n\\ No newline at end of file\n+2\n" in shown
    assert unified("/a", None, b"x\n", "fw2", "fw1").startswith("--- /dev/null")
    assert unified("/a", b"\0" * 3, b"x", "fw2", "fw1") == "binary file /a: 3 bytes -> 1 bytes\n"
    assert not is_text(b"\xff")


def test_tables() -> None:
    old: dict[str, list[dict[str, Any]]] = {"vip": [{"name": "a", "vhid": 1}, {"name": "b"}, {"name": "c"}]}
    new: dict[str, list[dict[str, Any]]] = {"vip": [{"name": "c"}, {"name": "a", "vhid": 2}, {"name": "d"}]}
    found = {(each.name, each.field): (each.old, each.new) for each in table_changes(old, new)}
    assert found == {
        ("a", "vhid"): (1, 2),
        ("b", ""): ({"name": "b"}, None),
        ("d", ""): (None, {"name": "d"}),
        ("", "order"): (["a", "c"], ["c", "a"]),
    }


def _numbered(count: int) -> list[str]:
    return [f"line {number}\n" for number in range(count)]


def test_a_difference_in_a_long_file_is_the_usual_one() -> None:
    """Alike lines before and behind are not compared, and the numbers are those of the whole file."""
    old = _numbered(50_000)
    new = [*old]
    new[20_000] = "another\n"
    del new[20_005]
    shown = unified("/a", "".join(old).encode(), "".join(new).encode(), "fw2", "fw1")
    assert shown == "".join(difflib.unified_diff(old, new, "fw2:/a", "fw1:/a"))
    assert "@@ -19998,12 +19998,11 @@" in shown


@given(st.lists(st.sampled_from("abc"), max_size=12), st.lists(st.sampled_from("abc"), max_size=12))
def test_differences_are_those_of_difflib_s_lines(one: list[str], two: list[str]) -> None:
    """Applied by patch(1)'s rules: what is taken away and what is put is all there is."""
    old, new = ([f"{letter}\n" for letter in letters] for letters in (one, two))
    lines = unified("/a", "".join(old).encode(), "".join(new).encode(), "x", "y").splitlines(keepends=True)[2:]
    made, at = [], 0
    for line in lines:
        if line.startswith("@@"):
            start, _, count = line.split()[1][1:].partition(",")
            begin = int(start) - (count != "0")
            made += old[at:begin]
            at = begin
        elif line[0] != "+":
            assert line[1:] == old[at]
            at += 1
        if line[0] in "+ ":
            made.append(line[1:])
    assert made + old[at:] == new


def test_too_many_lines_are_told_and_not_compared() -> None:
    old = _numbered(8000)
    new = old[::-1]
    shown = unified("/a", "".join(old).encode(), "".join(new).encode(), "fw2", "fw1")
    assert re.fullmatch(
        r"file /a: too many lines to compare: 8000 lines, \d+ bytes, sha256 [0-9a-f]{12} -> 8000 lines, .*\n", shown
    )
