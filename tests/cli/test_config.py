"""`hacore config`: what is asked of the control worker, how its answers are shown, and the exit codes."""

from __future__ import annotations

import json
import os
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from hacore.node.config_lock import lock
from tests.cli.conftest import Run

DIGEST = "0123456789abcdef" * 4


class FakeControl(socketserver.ThreadingUnixStreamServer):
    """Serves the local routes: `answers` by "METHOD /path", a list is a stream; `requests` as they came."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.answers: dict[str, Any] = {}
        self.requests: list[tuple[str, Any]] = []
        super().__init__(str(path), Handler)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}).start()


class Handler(BaseHTTPRequestHandler):
    server: FakeControl

    def log_message(self, *_arguments: object) -> None:
        return

    def address_string(self) -> str:
        return "local"

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.removeprefix("/local/v1")
        self.server.requests.append((f"{self.command} {path}", json.loads(body) if body else None))
        answer = self.server.answers.get(f"{self.command} {path.partition('?')[0]}")
        assert answer is not None, f"{self.command} {path}"
        status, lines = (200, answer) if isinstance(answer, list) else (answer.get("status", 200), [answer])
        data = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = _handle  # noqa: N815 - the names that http.server calls


@pytest.fixture
def control(settings_path: Path) -> Iterator[FakeControl]:
    served = FakeControl(settings_path.parent / "run/control.sock")
    yield served
    served.shutdown()
    served.server_close()


def section(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "id": name, "kind": "files", "description": "", "digest": DIGEST, "entries": 3, "total_bytes": 10,
        "revision": 7, "applied_at": 1700000000.0, "by": "fw1", "changed": False, "local": {}, "problem": "",
    } | changes  # fmt: skip


def config_answer(name: str, *sections: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "version": "1.2", "busy": "", "sections": list(sections)}


@pytest.mark.parametrize("width", [200, 60, 40])
def test_status(run: Run, control: FakeControl, width: int) -> None:
    control.answers["GET /config"] = {
        "here": config_answer("fw1", section("rules", revision=None, applied_at=None, by="")),
        "peers": [
            {
                "name": "fw2",
                "answer": config_answer(
                    "fw2", section("rules"), section("dns", changed=True), section("x", problem="no")
                ),
                "in_sync": {"rules": True, "dns": False, "x": False},
                "problem": None,
            },
            {
                "name": "fw3", "answer": None, "in_sync": {},
                "problem": {"code": "refused", "message": "gone", "hint": "start"},
            },
        ],
    }  # fmt: skip
    result = run("config", "status", "rules", "dns", width=width)
    assert result.exit_code == 1
    assert control.requests == [("GET /config?sections=rules%2Cdns", None)]
    shown = " ".join(result.output.split())
    for text in ("rules in sync; revision 7,", "by fw1; 0123456789ab",
                 "dns not in sync, changed there since the last push;", "x no", "fw3 gone start",
                 "fw1 (this node) hacore 1.2", "nothing was pushed here",
                 "Error: not in sync: fw2, fw3"):  # fmt: skip
        assert text in shown
    assert all(len(line) <= width for line in result.stdout.splitlines())
    assert not any(line.endswith(" ") for line in result.stdout.splitlines())


def entry(**changes: Any) -> dict[str, Any]:
    rights = {
        "kind": "file",
        "mode": 0o644,
        "owner": "root",
        "group": "root",
        "size": 3,
        "target": "",
        "template": False,
    }
    return {
        "path": "/etc/a", "what": "changed", "fields": ["digest"], "old": rights, "new": rights, "text": "",
    } | changes  # fmt: skip


def test_diff(run: Run, control: FakeControl) -> None:
    rights = entry()["old"]
    answer = {
        "old": "fw2", "new": "fw1",
        "sections": [
            {"id": "rules", "in_sync": False, "kind": "files", "changed_there": True, "problem": "", "tables": [],
             "left_out": 2, "entries": [
                entry(text="--- fw2:/etc/a\n+++ fw1:/etc/a\n@@ -1 +1 @@\n-drop\n+accept\n"),
                entry(path="/etc/b", fields=["mode"], new=rights | {"mode": 0o600}),
                entry(path="/etc/l", what="added", old=None, new=rights | {"kind": "link", "target": "b"}),
                entry(path="/etc/gone", what="removed", new=None),
                entry(path="/etc/same-size"),
             ]},
            {"id": "vips", "in_sync": False, "kind": "settings", "changed_there": False, "problem": "", "entries": [],
             "left_out": 0, "tables": [
                {"table": "vip", "name": "lan", "field": "advskew", "old": 100, "new": 50},
                {"table": "vip", "name": "wan", "field": "", "old": None, "new": {"name": "wan", "vhid": 2}},
             ]},
            {"id": "dns", "in_sync": True, "kind": "files", "changed_there": False, "problem": "", "entries": [],
             "left_out": 0, "tables": []},
        ],
    }  # fmt: skip
    control.answers["GET /config/difference"] = answer
    control.answers["GET /config/differences"] = {"peers": [{"name": "fw2", "difference": answer, "problem": None}]}
    result = run("config", "diff", width=100)
    assert run("config", "diff", "--peer", "fw2", width=100).stdout == result.stdout
    assert json.loads(run("config", "diff", "--json").stdout) == answer
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "rules: fw2 -> fw1  changed on fw2 since the last push",
        "--- fw2:/etc/a", "+++ fw1:/etc/a", "@@ -1 +1 @@", "-drop", "+accept",
        "  /etc/b: mode 0644 -> 0600",
        "  /etc/l: added: link to b",
        "  /etc/gone: removed: file 0644 root:root",
        "  /etc/same-size: changed, 3 bytes -> 3 bytes",
        "  and 2 more",
        "vips: fw2 -> fw1",
        "  vip lan: advskew: 100 -> 50",
        "  vip wan: added: name wan, vhid 2",
        "dns: in sync",
    ]  # fmt: skip
    assert "rules, vips: not alike" in result.stderr


def test_diff_with_several_peers(run: Run, control: FakeControl) -> None:
    differs = {"id": "rules", "in_sync": False, "kind": "files", "changed_there": False, "problem": "", "entries": [],
               "tables": [], "left_out": 1}  # fmt: skip
    peers: list[dict[str, Any]] = [
        {"name": "fw2", "difference": {"old": "fw2", "new": "fw1", "sections": []}, "problem": None},
        {"name": "fw3", "difference": None, "problem": {"code": "refused", "message": "gone", "hint": ""}},
        {"name": "fw4", "difference": {"old": "fw4", "new": "fw1", "sections": [differs]}, "problem": None},
    ]
    control.answers["GET /config/differences"] = {"peers": peers}
    result = run("config", "diff", "rules")
    assert result.exit_code == 1
    assert result.stdout == "fw2:\nno difference\nfw4:\nrules: fw4 -> fw1\n  and 1 more\n"
    assert "fw3: gone" in result.stderr
    assert "fw4: rules: not alike" in result.stderr
    assert json.loads(run("config", "diff", "--json").stdout) == {"peers": peers}
    control.answers["GET /config/differences"] = {"peers": [peers[1]]}
    assert run("config", "diff").exit_code == 69
    control.answers["GET /config/differences"] = {"peers": [peers[0]]}
    assert run("config", "diff").exit_code == 0


def test_diff_of_revisions(run: Run, control: FakeControl) -> None:
    control.answers["GET /revisions/3/difference"] = {"old": "revision 3", "new": "revision 5", "sections": []}
    result = run("config", "diff", "3", "5", "--peer", "fw2")
    assert (result.exit_code, result.stdout) == (0, "no difference\n")
    run("config", "diff", "3")
    assert [each for each, _ in control.requests] == [
        "GET /revisions/3/difference?to=5&peer=fw2",
        "GET /revisions/3/difference?to=0",
    ]
    assert run("config", "diff", "3", "rules").exit_code == 2
    assert run("config", "diff", "1", "2", "3").exit_code == 2


def outcome(**changes: Any) -> dict[str, Any]:
    return {
        "outcome": {
            "result": "applied", "node": "fw2", "transaction": "x", "revision": 8, "sections": {}, "services": {},
            "failure": None, "undo": [], "notes": [],
        } | changes
    }  # fmt: skip


def progress(step: str, text: str, done: int = 0, total: int = 0) -> dict[str, Any]:
    return {"progress": {"step": step, "text": text, "done": done, "total": total}}


def test_push(run: Run, control: FakeControl) -> None:
    control.answers["POST /config/push"] = [
        progress("compare", "the sections"), progress("send", "2 contents", 0, 10),
        progress("send", "2 contents", 10, 10), progress("check", "rules: nft --check"),
        outcome(services={"dnsmasq": "restarted"}, notes=["x was not restarted"]),
    ]  # fmt: skip
    result = run("config", "push", "rules", "--even-if-backup", "--restart", "all")
    assert result.exit_code == 0
    assert result.stdout == "applied on fw2 as revision 8\n  dnsmasq: restarted\n  x was not restarted\n"
    assert result.stderr.splitlines() == ["comparing the sections", "sending 2 contents", "checking rules: nft --check"]
    assert control.requests[0][1] == {
        "sections": ["rules"], "peer": "", "restart": "all", "overrides": ["not-master"], "dry_run": False,
        "if_master": False,
    }  # fmt: skip


def test_push_to_several_peers(run: Run, control: FakeControl) -> None:
    def failure(code: str) -> dict[str, Any]:
        return {"step": "x", "code": code, "message": "it failed", "command": [], "output": ""}

    gone = {"peer": "fw4", "problem": {"code": "refused", "message": "fw4: gone", "hint": ""}}
    lines: list[dict[str, Any]] = [
        progress("compare", "the sections") | {"peer": "fw2"}, outcome() | {"peer": "fw2"},
        progress("compare", "the sections") | {"peer": "fw3"},
        outcome(result="refused", node="fw3", failure=failure("check-failed")) | {"peer": "fw3"}, gone,
    ]  # fmt: skip
    control.answers["POST /config/push"] = lines
    result = run("config", "push")
    assert result.exit_code == 65
    assert result.stdout == "applied on fw2 as revision 8\n"
    for part in ("fw2: comparing the sections", "fw3: comparing", "fw3: it failed (step: x)", "fw4: gone"):
        assert part in result.stderr
    undone = outcome(result="undone", node="fw5", failure=failure("apply-failed")) | {"peer": "fw5"}
    control.answers["POST /config/push"] = [*lines, undone]
    assert run("config", "push", "--json").exit_code == 73
    control.answers["POST /config/push"] = [lines[1], gone]
    assert run("config", "push").exit_code == 69


@pytest.mark.parametrize("option", [[], ["--json"]])
def test_push_that_comes_to_no_end(run: Run, control: FakeControl, option: list[str]) -> None:
    ended = outcome() | {"peer": "fw2"}
    for lines in ([progress("swap", "rules")], [ended, progress("swap", "rules") | {"peer": "fw3"}]):
        control.answers["POST /config/push"] = lines
        result = run("config", "push", *option)
        assert result.exit_code == 71
        assert "the control worker ended without an outcome" in result.stderr


@pytest.mark.parametrize(
    ("result", "code", "exit_code", "text"),
    [
        ("refused", "check-failed", 65, "nothing was changed on fw2"),
        ("refused", "disk-full", 74, "nothing was changed on fw2"),
        ("undone", "apply-failed", 73, "fw2 is as it was before"),
        ("broken", "verify-failed", 1, "could not put back"),
    ],
)
def test_push_that_fails(run: Run, control: FakeControl, result: str, code: str, exit_code: int, text: str) -> None:
    failure = {"step": "check", "code": code, "message": "it failed", "command": ["nft", "-c"], "output": "line 1\nno"}
    control.answers["POST /config/push"] = [outcome(result=result, failure=failure, revision=None)]
    ended = run("config", "push")
    assert ended.exit_code == exit_code
    for part in ("fw2: it failed (step: check)", "command: nft -c", "output:\n  line 1\n  no", text):
        assert part in ended.stderr


def test_push_if_master_is_silent_on_a_backup(run: Run, control: FakeControl) -> None:
    control.answers["POST /config/push"] = [
        outcome(result="unchanged", node="fw1", notes=["not MASTER: nothing to do"])
    ]
    result = run("config", "push", "--if-master")
    assert (result.exit_code, result.output) == (0, "")


def test_guards_and_absence(run: Run, control: FakeControl) -> None:
    control.answers["POST /config/push"] = {
        "status": 409,
        "error": {"code": "guarded", "message": "fw1 is not MASTER of lan (BACKUP)", "hint": "--even-if-backup"},
    }  # fmt: skip
    result = run("config", "push")
    assert result.exit_code == 75
    assert "fw1 is not MASTER of lan (BACKUP)\n--even-if-backup" in result.stderr
    control.shutdown()
    control.server_close()
    Path(str(control.server_address)).unlink()
    result = run("config", "history")
    assert result.exit_code == 69
    assert "no control worker runs" in result.stderr


def test_history_and_roll_back(run: Run, control: FakeControl) -> None:
    line = {"at": 1700000000.0, "version": "1.2", "all": ["rules"], "comment": ""}
    control.answers["GET /revisions"] = {
        "name": "fw2",
        "revisions": [
            line | {"number": 9, "kind": "found", "by": "fw2", "sections": ["rules"]},
            line | {"number": 10, "kind": "push", "by": "fw1", "sections": ["rules", "vips"]},
            line | {"number": 11, "kind": "roll-back", "by": "fw2", "sections": ["rules"], "comment": "to revision 9"},
        ],
    }
    shown = run("config", "history", width=100).stdout.splitlines()
    assert [text.split("  ")[-1] for text in shown] == [
        "rules: found there before a push",
        "rules, vips: pushed by fw1",
        "rules: rolled back to revision 9 by fw2",
    ]
    assert len(run("config", "history", "-n", "1").stdout.splitlines()) == 1
    control.answers["POST /revisions/9/restore"] = [outcome(revision=12)]
    assert run("config", "roll-back", "9", "--peer", "fw2").stdout == "applied on fw2 as revision 12\n"
    order = {"restart": "changed", "overrides": []}
    assert control.requests[-1] == ("POST /revisions/9/restore?peer=fw2", order)
    run("config", "roll-back", "9", "--peer", "fw2", "--even-if-peer-is-master")
    assert control.requests[-1][1] == order | {"overrides": ["peer-is-master"]}
    control.answers["GET /revisions/9"] = {
        "revision": control.answers["GET /revisions"]["revisions"][1], "digests": {"rules": DIGEST, "vips": DIGEST},
        "entries": {
            "rules": [
                {"path": "/etc/a", "kind": "file", "mode": 0o640, "owner": "root", "group": "adm", "size": 2048},
                {"path": "/etc/l", "kind": "link", "mode": 0, "owner": "", "group": "", "size": 0, "target": "a"},
            ],
            "vips": [{"path": "vips", "kind": "settings", "size": 100}],
        },
    }  # fmt: skip
    text = run("config", "show", "9").stdout
    for part in (
        "push by fw1, hacore 1.2",
        "/etc/a  0640 root:adm  2.0 KiB",
        "/etc/l -> a",
        "tables of hacore's settings",
    ):
        assert part in text


def test_recover_without_a_node(run: Run, settings_path: Path) -> None:
    directory = settings_path.parent / "state/config"
    done = run("config", "recover")
    assert (done.exit_code, done.stdout) == (0, "no push was interrupted: nothing is to be put back\n")
    assert not directory.exists()
    directory.mkdir(parents=True)
    (directory / "journal.json").write_text("{")
    done = run("config", "recover")
    assert (done.exit_code, "journal.json is damaged" in done.stderr) == (71, True)


def test_recover_beside_a_node(run: Run, settings_path: Path) -> None:
    directory = settings_path.parent / "state/config"
    directory.mkdir(parents=True)
    (directory / "journal.json").write_text("{")
    handle = lock(directory)
    try:
        done = run("config", "recover")
    finally:
        os.close(handle)
    assert (done.exit_code, "a node runs, and puts back by itself" in done.stderr) == (75, True)
