"""Two control workers: comparison, push, guards, history, as the command line asks for them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from hacore import __version__
from hacore.control.config import Configuration, PushedServices, vip_keys
from hacore.control.config_push import Pushing
from hacore.control.config_schemas import Files, Line, PushOrder
from hacore.control.problems import ApiError
from hacore.node.config_surroundings import Restarted, Standing
from tests.control.worker_pair import Played, pair, until

SECTION = """
[[section]]
id = "rules"
paths = ["{tree}/rules.conf", "{tree}/rules.d"]
services = ["one"]
{keys}
[[section]]
id = "vips"
[[service]]
id = "one"
unit = "one.service"
"""


@pytest.fixture(autouse=True)
def links(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interfaces of the played machines."""
    monkeypatch.setattr("hacore.control.config._links", lambda: {"lan": True})


class Node:
    """A played node with a tree of files, both nodes' under the same paths: each has a root of its own."""

    def __init__(self, played: Played) -> None:
        self.played = played
        self.tree = played.directory / "tree"
        self.restarted: list[list[str]] = []
        part = played.worker.part(Configuration)
        part.node.parts.tree.root = str(self.tree)

        async def restart(names: Sequence[str]) -> list[Restarted]:
            self.restarted.append(list(names))
            return [Restarted(name, True, "restarted") for name in names]

        async def look(names: Sequence[str]) -> list[Standing]:
            return [Standing(name, True) for name in names]

        part.services = PushedServices(look, restart, restart)

    def write(self, path: str, content: str) -> None:
        place = Path(f"{self.tree}{path}")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content)

    async def ask(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        return await asyncio.to_thread(self.played.local.ask, method, path, body, query=query)

    async def lines(self, path: str, body: Any, **query: Any) -> list[dict[str, Any]]:
        return await asyncio.to_thread(lambda: list(self.played.local.stream("POST", path, body, query=query)))

    async def push(self, **order: Any) -> dict[str, Any]:
        lines = await self.lines("/config/push", order)
        outcome: dict[str, Any] = lines[-1]["outcome"]
        return outcome


@asynccontextmanager
async def nodes(directory: Path, keys: str = "") -> AsyncIterator[tuple[Node, Node]]:
    async with pair(directory, more=SECTION.format(tree="/etc", keys=keys)) as (one, two):
        yield Node(one), Node(two)


def test_difference_push_status_history(tmp_path: Path) -> None:
    async def play() -> None:
        async with nodes(tmp_path) as (a, b):
            a.write("/etc/rules.conf", "accept\n")
            a.write("/etc/rules.d/x", "x" * 300_000)
            b.write("/etc/rules.conf", "drop\n")
            found = await a.ask("GET", "/config/difference")
            by_id = {each["id"]: each for each in found["sections"]}
            assert "-drop\n+accept\n" in by_id["rules"]["entries"][0]["text"]
            assert [each["field"] for each in by_id["vips"]["tables"]] == ["advskew"]
            lines = await a.lines("/config/push", {})
            outcome = lines[-1]["outcome"]
            assert outcome["result"] == "applied", outcome
            assert {"compare", "send", "stage", "swap", "verify"} <= {line["progress"]["step"] for line in lines[:-1]}
            assert (b.tree / "etc/rules.conf").read_text() == "accept\n"
            assert b.played.worker.settings.vips[0].advskew == 100
            assert b.restarted == [["one"]]
            assert [command for command, _ in b.played.bus.requests if command == "reload"] == ["reload"]
            status = await a.ask("GET", "/config")
            assert status["peers"][0]["in_sync"] == {"rules": True, "vips": True}
            assert [each["changed"] for each in status["peers"][0]["answer"]["sections"]] == [False, False]
            assert (await a.push())["result"] == "unchanged"
            history = await a.ask("GET", "/revisions", peer="fw2")
            assert [(each["number"], each["kind"], each["by"]) for each in history["revisions"]] == [
                (1, "found", "fw2"),
                (2, "push", "fw1"),
            ]
            shown = await b.ask("GET", "/revisions/2")
            assert [each["path"] for each in shown["entries"]["rules"]] == [
                "/etc/rules.conf",
                "/etc/rules.d",
                "/etc/rules.d/x",
            ]
            differs = await b.ask("GET", "/revisions/2/difference")
            assert {each["id"] for each in differs["sections"]} == {"rules", "vips"}
            back = (await b.lines("/revisions/1/restore", {}))[-1]["outcome"]
            assert (back["result"], back["revision"]) == ("applied", 3)
            assert (b.tree / "etc/rules.conf").read_text() == "drop\n"
            await b.played.worker.reload()
            assert b.played.worker.settings.vips[0].advskew == 20
            again = (await a.lines("/revisions/2/restore", {}, peer="fw2"))[-1]["outcome"]
            assert again["result"] == "applied"

    asyncio.run(play())


def test_guards(tmp_path: Path) -> None:
    async def play() -> None:
        async with nodes(tmp_path) as (a, b):
            a.write("/etc/rules.conf", "accept\n")
            with pytest.raises(ApiError, match=r"fw2 is not MASTER of lan \(BACKUP\)"):
                await b.push(sections=["rules"])
            assert (await b.push(if_master=True))["result"] == "unchanged"
            assert not (b.tree / "etc").exists()
            b.played.bus.change("lan", "MASTER", 1)
            while b.played.worker.states["lan"] != "MASTER":
                await asyncio.sleep(0.01)
            with pytest.raises(ApiError) as caught:
                await a.push(sections=["rules"])
            assert caught.value.code == "guarded"
            assert caught.value.exit_code == 75
            assert "--even-if-peer-is-master" in caught.value.hint
            assert (await a.push(sections=["rules"], overrides=["peer-is-master"]))["result"] == "applied"
            b.played.bus.change("lan", "BACKUP", 2)
            while b.played.worker.states["lan"] != "BACKUP":
                await asyncio.sleep(0.01)
            b.write("/etc/rules.conf", "by hand\n")
            a.write("/etc/rules.conf", "newer\n")
            assert (await a.ask("GET", "/config/difference"))["sections"][0]["changed_there"]
            with pytest.raises(ApiError, match="changed on fw2 itself since the last push"):
                await a.push(sections=["rules"])

    asyncio.run(play())


def test_who_is_not_master_any_more_when_all_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    send = Pushing._send

    async def play() -> None:
        async with nodes(tmp_path) as (a, b):
            a.write("/etc/rules.conf", "accept\n")

            async def slow(*arguments: Any) -> AsyncIterator[Line]:
                async for line in send(*arguments):
                    yield line
                a.played.bus.change("lan", "BACKUP", 1)
                await until(lambda: a.played.worker.states["lan"] == "BACKUP")

            monkeypatch.setattr(Pushing, "_send", slow)
            with pytest.raises(ApiError, match=r"fw1 is not MASTER of lan \(BACKUP\)"):
                await a.push(sections=["rules"])
            assert not (b.tree / "etc/rules.conf").exists()
            assert b.played.worker.part(Configuration).node.busy == ""

    asyncio.run(play())


INTERRUPTED = """{"transaction": "1", "step": "undoing", "action": "push", "by": "fw1", "since": 1.0,
    "settings_file": "FILE", "settings_before": "BEFORE", "touches_settings": true}"""


def test_an_interrupted_push_is_put_back_until_that_succeeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hacore.control.config.TEND_INTERVAL", 0.01)

    async def play() -> None:
        async with nodes(tmp_path) as (a, b):
            a.write("/etc/rules.conf", "accept\n")
            place = tmp_path / "in the way"
            place.write_text("")
            journal = INTERRUPTED.replace("FILE", f"{place}/synced.toml").replace("BEFORE", "0" * 64)
            await b.played.worker.stop()
            (b.played.directory / "state/config/journal.json").write_text(journal)
            await b.played.start()
            b = Node(b.played)
            warning = await until(lambda: b.played.worker.warnings.get("config"))
            assert warning.startswith(f"an interrupted push could not be put back: {place}/synced.toml: ")
            with pytest.raises(ApiError, match="fw2 has to put back what an interrupted push replaced") as caught:
                await a.push(sections=["rules"])
            assert caught.value.code == "busy"
            node = b.played.worker.part(Configuration).node
            assert node.parts.journal.record is not None
            node.parts.journal.record.settings_before = ""
            await until(lambda: "config" not in b.played.worker.warnings)
            assert (await a.push(sections=["rules"]))["result"] == "applied"

    asyncio.run(play())


def test_a_worker_with_a_damaged_journal_runs_without_pushes(tmp_path: Path) -> None:
    async def play() -> None:
        async with nodes(tmp_path) as (a, b):
            a.write("/etc/rules.conf", "accept\n")
            await b.played.worker.stop()
            journal = b.played.directory / "state/config/journal.json"
            journal.write_text("")
            await b.played.start()
            assert f"no push and no history: {journal} is damaged" in b.played.worker.warnings["config"]
            with pytest.raises(ApiError, match="no push and no history"):
                await a.push(sections=["rules"])

    asyncio.run(play())


def test_damage_is_a_warning(tmp_path: Path) -> None:
    async def play() -> None:
        async with nodes(tmp_path) as (a, b):
            a.write("/etc/rules.conf", "accept\n")
            assert (await a.push(sections=["rules"]))["revision"] == 2
            await b.played.worker.stop()
            file = b.played.directory / "state/config/revisions/000002.json"
            file.write_text("{")
            await b.played.start()
            assert f"{file} is damaged" in b.played.worker.warnings["config history"]
            assert f"{file} is damaged" in next(text for kind, text, _ in reversed(b.played.events) if kind == "config")

    asyncio.run(play())


def test_a_peer_that_rolls_back_a_master_has_to_say_so(tmp_path: Path) -> None:
    async def play() -> None:
        async with nodes(tmp_path) as (a, b):
            b.write("/etc/rules.conf", "accept\n")
            assert (await b.push(sections=["rules"], overrides=["not-master", "peer-is-master"]))["result"] == "applied"
            with pytest.raises(ApiError, match="fw1 is MASTER of lan") as caught:
                await b.lines("/revisions/1/restore", {}, peer="fw1")
            assert (caught.value.code, "--even-if-peer-is-master" in caught.value.hint) == ("guarded", True)
            assert (a.tree / "etc/rules.conf").exists()
            (*_, line) = await b.lines("/revisions/1/restore", {"overrides": ["peer-is-master"]}, peer="fw1")
            assert line["outcome"]["result"] == "applied"
            (*_, line) = await a.lines("/revisions/2/restore", {})
            assert line["outcome"]["result"] == "applied"

    asyncio.run(play())


def test_one_at_a_time_from_either_side(tmp_path: Path) -> None:
    async def play() -> None:
        async with nodes(tmp_path, keys='apply = ["sleep", "1"]') as (a, b):
            a.write("/etc/rules.conf", "accept\n")
            first = asyncio.create_task(a.push(sections=["rules"]))
            while not b.played.worker.part(Configuration).node.busy:
                await asyncio.sleep(0.01)
            with pytest.raises(ApiError) as caught:
                await a.push(sections=["rules"])
            assert caught.value.code == "busy"
            with pytest.raises(ApiError, match="fw2 is busy: fw1 pushes rules"):
                await b.push(sections=["rules"], overrides=["not-master"])
            status = await asyncio.wait_for(a.ask("GET", "/config"), 0.8)  # answers while the push runs
            assert "fw1 pushes" in status["peers"][0]["answer"]["busy"]
            assert (await first)["result"] == "applied"

    asyncio.run(play())


def test_failures_say_what_failed(tmp_path: Path) -> None:
    async def play() -> None:
        keys = 'check = ["sh", "-c", "echo no good; exit 4"]'
        async with nodes(tmp_path, keys=keys) as (a, b):
            a.write("/etc/rules.conf", "accept\n")
            outcome = await a.push(sections=["rules"])
            assert outcome["result"] == "refused"
            assert outcome["failure"]["code"] == "check-failed"
            assert outcome["failure"]["output"] == "no good"
            assert any("no good" in text for kind, text, _ in b.played.events if kind == "config")
            assert not (b.tree / "etc/rules.conf").exists()
            with pytest.raises(ApiError, match='no section "ghost"'):
                await a.push(sections=["ghost"])
            a.played.path.write_text(a.played.path.read_text() + '[[section]]\nid = "more"\npaths = ["/etc/more"]\n')
            await a.played.worker.reload()
            with pytest.raises(ApiError, match='push "sections" first'):
                await a.push(sections=["more"])
            await b.played.worker.stop()
            with pytest.raises(ApiError) as caught:
                await a.push()
            assert caught.value.code in ("refused", "connection-lost")
            status = await a.ask("GET", "/config")
            assert status["peers"][0]["problem"]["code"] == "refused"
            await b.played.start()

    asyncio.run(play())


def test_new_keys_are_everywhere_after_a_push_of_vips(tmp_path: Path) -> None:
    async def play() -> None:
        async with nodes(tmp_path) as (a, b):
            a.played.path.write_text(
                a.played.path.read_text().replace('["10.1.0.1/16"]', '["10.1.0.1/16", "10.1.0.2/16"]')
            )
            await a.played.worker.reload()
            assert (await a.push(sections=["vips"]))["result"] == "applied"
            assert vip_keys(a.played.worker.settings) == vip_keys(b.played.worker.settings)
            for node in (a, b):
                assert ("rekeyed", {"vips": ["lan"]}) in node.played.bus.requests

    asyncio.run(play())


def test_what_a_peer_may_not_do(tmp_path: Path) -> None:
    async def play() -> None:
        async with pair(tmp_path, more=SECTION.format(tree="/etc", keys=""), peer='allow = ["status"]') as (one, _):
            asked = {"sender": "fw1", "version": __version__, "sections": []}
            for method, path, body in (("POST", "/push", asked), ("GET", "/config", None), ("GET", "/revisions", None)):
                with pytest.raises(ApiError, match='does not give fw1 the right "config"'):
                    await one.worker.peer("fw2").ask(method, path, body, response=dict)

    asyncio.run(play())


def test_a_new_section_takes_one_push(tmp_path: Path) -> None:
    """The tables go first, as a transaction of their own; what fails after that leaves them."""

    async def play() -> None:
        async with nodes(tmp_path) as (a, b):
            text = a.played.path.read_text()
            more = '[[section]]\nid = "more"\npaths = ["/etc/more"]\n[[section]]\nid = "sections"\n'
            a.played.path.write_text(text + more)
            await a.played.worker.reload()
            a.write("/etc/rules.conf", "accept\n")
            a.write("/etc/more", "1\n")
            outcome = await a.push()
            assert (outcome["result"], outcome["revision"]) == ("applied", 4)
            assert outcome["notes"] == ["the section sections went first, as revision 2"]
            assert set(outcome["sections"]) == {"rules", "vips", "more", "sections"}
            assert (b.tree / "etc/more").read_text() == "1\n"
            assert (await a.push())["result"] == "unchanged"
            a.played.path.write_text(
                text + more.replace('"/etc/more"]', '"/etc/more", "/etc/again"]\ncheck = ["false"]')
            )
            await a.played.worker.reload()
            a.write("/etc/again", "2\n")
            outcome = await a.push()
            assert (outcome["result"], outcome["failure"]["code"]) == ("refused", "check-failed")
            assert outcome["notes"] == ["the section sections went first, as revision 5"]
            assert not (b.tree / "etc/again").exists()
            a.played.path.write_text(a.played.path.read_text().replace('check = ["false"]', "description = 'new'"))
            await a.played.worker.reload()
            (a.tree / "etc/again").unlink()
            outcome = await a.push()
            assert (outcome["result"], outcome["revision"], outcome["notes"]) == ("applied", 6, [])

    asyncio.run(play())


def test_a_long_silence_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hacore.control.heartbeat.HEARTBEAT", 0.05)

    async def play() -> None:
        async with nodes(tmp_path, keys='apply = ["sleep", "1"]') as (a, _):
            a.write("/etc/rules.conf", "accept\n")
            lines = await a.lines("/config/push", {"sections": ["rules"]})
            assert lines[-1]["outcome"]["result"] == "applied"
            said = [line["progress"]["text"] for line in lines[:-1] if line["progress"]["step"] == "apply"]
            assert len(said) > 3, "the peer says it again while the command runs"
            assert len(set(said)) == 1

    asyncio.run(play())


def test_who_stops_waiting_for_the_claim_does_not_keep_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def play() -> None:
        async with nodes(tmp_path) as (a, _):
            pushing, node = a.played.worker.part(Pushing), a.played.worker.part(Configuration).node
            begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()
            claim = node.claim

            def slow(what: str) -> None:
                begun.set()
                go_on.wait(10)
                claim(what)
                ended.set()

            monkeypatch.setattr(node, "claim", slow)
            waiting = asyncio.ensure_future(anext(pushing.push(PushOrder(sections=["rules"]))))
            await asyncio.to_thread(begun.wait, 10)
            waiting.cancel()
            await asyncio.wait([waiting])
            go_on.set()
            monkeypatch.setattr(node, "claim", claim)
            await asyncio.to_thread(ended.wait, 10)
            await until(lambda: not node.busy)
            a.write("/etc/rules.conf", "accept\n")
            assert (await a.push(sections=["rules"]))["result"] == "applied"

    asyncio.run(play())


def test_a_difference_fetches_no_more_than_it_can_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hacore.control.config_differences.MOST_BYTES", 4000)

    async def play() -> None:
        async with nodes(tmp_path) as (a, b):
            for number in range(5):
                a.write(f"/etc/rules.d/{number}", f"{number}\n" * 700)
                b.write(f"/etc/rules.d/{number}", "old\n" * 300)
            a.write("/etc/rules.conf", "\0" * 70)
            b.write("/etc/rules.conf", "\0" * 9000)
            paths = ["/etc/rules.conf", *(f"/etc/rules.d/{number}" for number in range(5))]
            asked = {"section": "rules", "paths": paths}
            files = await a.played.worker.peer("fw2").ask("POST", "/config/files", asked, response=Files)
            assert files.binary == ["/etc/rules.conf"]
            assert [content is not None for content in files.contents.values()] == [True] * 3 + [False] * 2
            found = await a.ask("GET", "/config/difference", sections="rules")
            texts = {entry["path"]: entry.get("text", "") for entry in found["sections"][0]["entries"]}
            assert texts["/etc/rules.conf"] == "binary file /etc/rules.conf: 9000 bytes -> 70 bytes\n"
            assert texts["/etc/rules.d/0"].startswith("--- fw2:")
            assert "are too long to be shown" in texts["/etc/rules.d/1"]
            assert texts["/etc/rules.d/4"] == "file /etc/rules.d/4 is too large to be shown\n"

    asyncio.run(play())
