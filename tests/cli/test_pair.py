"""`hacore pair` where there is no node to ask, what it prints, and what doctor and status say of certificates."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from hacore.cli.doctor_findings import Finding, examine_pairing
from hacore.cli.pair import Duration
from hacore.cli.pair_view import fingerprint, renewal_line, view
from hacore.control.certificates import Place, make, save
from hacore.control.pairing_answers import (
    Attempted,
    CertificateShown,
    OpenInvitation,
    PairedNode,
    PairList,
    RenewalUnderWay,
)
from hacore.control.schemas import Problem
from hacore.control.trust import TrustStore
from hacore.node.settings import load
from tests.cli.conftest import Run

DAY = 86400.0
NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    "command", [("invite",), ("join", "hacore-1", "--via", "fw1"), ("list",), ("revoke", "fw2"), ("renew",)]
)
def test_without_a_control_worker(run: Run, command: tuple[str, ...]) -> None:
    done = run("pair", *command)
    assert done.exit_code == 69
    assert "no control worker runs" in done.output


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("900", 900.0), ("1.5", 1.5), ("15m", 900.0), ("15 min", 900.0), ("2h", 7200.0), ("30s", 30.0)],
)
def test_durations(text: str, seconds: float) -> None:
    assert Duration().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "m", "-5", "1d", "1h30m", "nan"])
def test_what_is_no_duration(run: Run, text: str) -> None:
    done = run("pair", "invite", f"--valid-for={text}")
    assert done.exit_code == 2
    assert "a duration is" in done.output


def test_join_needs_to_know_where(run: Run) -> None:
    done = run("pair", "join", "hacore-1")
    assert done.exit_code == 2
    assert "--via" in done.output


def shown(days: float) -> CertificateShown:
    return CertificateShown(fingerprint="ab" * 32, not_before=NOW - DAY, expires=NOW + days * DAY)


def test_the_list() -> None:
    found = PairList(
        node="fw1",
        generated=NOW,
        own=shown(20),
        peers=[
            PairedNode(name="fw2", certificates=[shown(700)], configured=True, place="a:1", answers=True, version="9"),
            PairedNode(
                name="fw3", certificates=[shown(-1)], configured=True, place="b:2",
                problem=Problem(code="refused", message="the connection was refused", hint="start it"),
            ),
            PairedNode(name="fw4", certificates=[], configured=True, problem=Problem(code="x", message="y")),
        ],
        invitations=[OpenInvitation(expires=NOW + 60, wrong=2, left=3)],
        attempts=Attempted(made=3, refused=2, held_back=0),
        renewal=RenewalUnderWay(fingerprint="cd" * 32, began=NOW, switched=False, waiting_for=["fw3"]),
        warnings=["something"],
    )  # fmt: skip
    text = "\n".join(line.plain for line in view(found))
    for words in (
        "fw2  a:1  answers, hacore 9", "fw3  b:2  does not answer", "the connection was refused (start it)",
        "fw4    not paired", "expired", "waits for fw3", "a token is open for another 1 min 0 s, tried 2 times",
        "attempts to join: 3, refused 2", "warning: something", ":".join(["AB"] * 32),
    ):  # fmt: skip
        assert words in text, text


def test_the_list_of_a_node_that_is_not_paired() -> None:
    nothing = Attempted(made=0, refused=0, held_back=0)
    found = PairList(node="fw1", generated=NOW, own=None, peers=[], invitations=[], attempts=nothing)
    assert "no certificate yet: hacore pair invite" in "\n".join(line.plain for line in view(found))


def test_the_steps_of_a_renewal() -> None:
    step: dict[str, Any] = {"peer": "fw2", "fingerprint": "ab" * 32, "expires": NOW, "message": "why"}
    lines = [
        renewal_line(step | {"step": word})
        for word in ("made", "told", "not told", "switched", "confirmed", "not confirmed", "waiting", "done")
    ]
    assert len(set(lines)) == 8
    assert fingerprint("ab" * 32) in lines[0]
    assert "fw2 could not be told: why" in lines


def examined(path: Path) -> dict[str, Finding]:
    return {one.name: one for one in examine_pairing(load(path), time.time())}


def test_doctor_looks_at_the_certificates(settings_path: Path) -> None:
    settings_path.write_text(
        settings_path.read_text() + '[[peer]]\nname = "fw2"\ncontrol = "192.0.2.3:8117"\n'
        '[control]\nlisten = "192.0.2.2:8117"\n'
    )
    assert "not paired" in examined(settings_path)["certificate"].finding
    assert "not paired with fw2" in examined(settings_path)["peer fw2"].finding
    tls = settings_path.parent / "state/tls"
    place = Place(tls / "node.crt", tls / "node.key")
    now = time.time()
    save(make("fw1", now), place)
    TrustStore(tls / "peers.pem").add(make("fw2", now, 10.0).certificate)
    found = examined(settings_path)
    assert found["certificate"].ok
    assert "expires in 10 d" in found["peer fw2"].finding
    assert found["peer fw2"].remedy == "on fw2: hacore pair renew"
    save(make("fw9", now), place)
    assert "it is for fw9, and this node is called fw1" in examined(settings_path)["certificate"].finding
    save(make("fw1", now - 100 * DAY, 99.0), place)
    assert "expired at" in examined(settings_path)["certificate"].finding
    place.key.write_bytes(b"")
    assert "no private key" in examined(settings_path)["certificate"].finding


def test_help_names_every_command() -> None:
    from hacore.cli import main

    said = CliRunner().invoke(main, ["pair", "--help"]).output
    for command in ("invite", "join", "list", "revoke", "renew"):
        assert f"  {command} " in said
