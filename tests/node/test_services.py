"""Services under plain commands, and followers of a VIP, with real processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from hacore.linux.process import start_ticks
from hacore.linux.systemd import JobResult, Systemd, UnitStatus
from hacore.node.services import Services
from hacore.node.settings import Service
from hacore.services.service import Action, FollowsVip, Outcome, State, UnknownService
from tests.relay import Relay, relays


@pytest.fixture(name="relays")
def relays_(tmp_path: Path) -> Iterator[Any]:
    with relays(tmp_path) as make:
        yield make


@asynccontextmanager
async def serving(tmp_path: Path, *tables: Service) -> AsyncIterator[tuple[Services, list[str]]]:
    told: list[str] = []
    services = Services(tmp_path / "run", lambda _kind, text: told.append(text))
    services.load(tables)
    try:
        yield services, told
    finally:
        await services.close()


async def until(condition: Callable[[], Any], timeout: float = 20.0) -> None:
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.02)


def run(test: Awaitable[None]) -> None:
    async def started() -> None:
        await test

    asyncio.run(started())


async def collect(outcomes: AsyncIterator[Outcome]) -> dict[str, Outcome]:
    return {one.id: one async for one in outcomes}


def test_start_status_restart_stop(tmp_path: Path, relays: Callable[[str], Relay]) -> None:
    relay = relays("relay")

    async def test() -> None:
        async with serving(tmp_path, relay.table(description="A relay")) as (services, told):
            (report,) = await services.list()
            assert (report.state, report.since, report.description) == (State.STOPPED, None, "A relay")
            outcome = await services.act("relay", Action.START, "root")
            assert outcome.ok, outcome
            (report,) = await services.list()
            assert report.state is State.RUNNING
            assert report.since is not None
            assert (await services.act("relay", Action.START, "root")).ok
            assert relay.calls == ["start relay"], "what runs is not started again"
            assert (await services.act("relay", Action.RESTART, "root")).ok
            assert (await services.act("relay", Action.STOP, "root")).ok
            assert relay.calls == ["start relay", "stop relay", "start relay", "stop relay"]
            assert told[-1] == "relay stopped (asked by root)"

    run(test())


def test_a_failure_says_which_command_and_what_it_wrote(tmp_path: Path, relays: Callable[[str], Relay]) -> None:
    relay = relays("relay")
    relay.mark("broken")

    async def test() -> None:
        async with serving(tmp_path, relay.table()) as (services, told):
            outcome = await services.act("relay", Action.START, "fw1")
            assert not outcome.ok
            assert (outcome.message, outcome.output, outcome.state) == (
                "start: exit code 4", "no carrier", State.STOPPED,
            )  # fmt: skip
            assert told == ["relay not started: start: exit code 4 (asked by fw1)"]

    run(test())


def test_a_command_that_takes_too_long_is_ended(tmp_path: Path, relays: Callable[[str], Relay]) -> None:
    relay = relays("relay")
    relay.mark("slow")

    async def test() -> None:
        async with serving(tmp_path, relay.table(timeout=0.3)) as (services, _):
            outcome = await services.act("relay", Action.START, "root")
            assert not outcome.ok
            assert "time is up" in outcome.message
            assert not relay.runs

    run(test())


def test_a_command_that_is_not_there(tmp_path: Path) -> None:
    table = Service(id="ghost", start=("/nowhere/ghost",), stop=("/nowhere/ghost",), status=("/nowhere/ghost",))

    async def test() -> None:
        async with serving(tmp_path, table) as (services, _):
            (report,) = await services.list()
            assert report.state is State.UNKNOWN
            assert "cannot start /nowhere/ghost" in report.detail
            outcome = await services.act("ghost", Action.START, "root")
            assert not outcome.ok
            assert "cannot start /nowhere/ghost" in outcome.message

    run(test())


def test_only_what_is_in_the_settings(tmp_path: Path, relays: Callable[[str], Relay]) -> None:
    relay, other = relays("relay"), relays("other")

    async def test() -> None:
        async with serving(tmp_path, relay.table()) as (services, told):
            for name in ("other", "relai", "relay.service", "../relay", ""):
                with pytest.raises(UnknownService):
                    await services.act(name, Action.STOP, "root")
            with pytest.raises(UnknownService, match="did you mean relay"):
                await services.act("relai", Action.START, "root")
            with pytest.raises(UnknownService):
                await collect(services.restart(["relay", "other"], "root"))
            assert relay.calls == other.calls == told == []

    run(test())


def test_restart_all_in_the_settings_order_and_past_a_failure(tmp_path: Path, relays: Callable[[str], Relay]) -> None:
    made = [relays(name) for name in ("c", "a", "b")]
    made[1].mark("broken")

    async def test() -> None:
        async with serving(tmp_path, *(relay.table() for relay in made)) as (services, _):
            outcomes = [one async for one in services.restart(None, "root")]
            assert [(one.id, one.ok) for one in outcomes] == [("c", True), ("a", False), ("b", True)]
            outcomes = [one async for one in services.restart(["b", "c"], "root")]
            assert [one.id for one in outcomes] == ["c", "b"]

    run(test())


# Followers


def test_a_follower_goes_with_its_vip(tmp_path: Path, relays: Callable[[str], Relay]) -> None:
    line, vpn = relays("line"), relays("vpn")
    tables = [relay.table(run_on="MASTER", vip="wan") for relay in (line, vpn)]

    async def test() -> None:
        async with serving(tmp_path, *tables) as (services, told):
            with pytest.raises(FollowsVip, match="not known here yet"):
                await services.act("line", Action.START, "root")
            services.roles([])
            with pytest.raises(FollowsVip, match="does not hold"):
                await services.act("line", Action.START, "root")
            services.roles(["wan", "lan"])
            await until(lambda: line.runs and vpn.runs and len(told) == 2)
            assert told == ["line started: this node holds wan", "vpn started: this node holds wan"]
            (report, _) = await services.list()
            assert (report.follows, report.wanted, report.problem) == ("wan", True, "")
            with pytest.raises(FollowsVip, match="started again at once"):
                await services.act("line", Action.STOP, "root")
            services.roles(["lan"])
            await until(lambda: len(told) == 4)
            assert not line.runs
            assert not vpn.runs
            outcomes = await collect(services.restart(None, "root"))
            assert all(one.skipped for one in outcomes.values())
            assert told[2:4] == [
                "vpn stopped: this node does not hold wan",
                "line stopped: this node does not hold wan",
            ]

    run(test())


def test_a_slow_stop_does_not_end_what_was_started_after_it(tmp_path: Path, relays: Callable[[str], Relay]) -> None:
    line = relays("line")
    line.mark("slow-stop")

    async def test() -> None:
        async with serving(tmp_path, line.table(run_on="MASTER", vip="wan")) as (services, _):
            services.roles(["wan"])
            await until(lambda: line.runs)
            services.roles([])
            await until(lambda: line.calls[-1] == "stop line")
            services.roles(["wan"])
            await until(lambda: line.calls == ["start line", "stop line", "start line"] and line.runs)

    run(test())


def test_a_slow_start_is_ended_when_the_vip_goes(tmp_path: Path, relays: Callable[[str], Relay]) -> None:
    line = relays("line")
    line.mark("slow")

    async def test() -> None:
        async with serving(tmp_path, line.table(run_on="MASTER", vip="wan")) as (services, told):
            services.roles(["wan"])
            await until(lambda: line.calls == ["start line"])
            services.roles([])
            (report,) = await services.list()
            assert report.wanted is False
            await until(lambda: services._followers.is_gone)
            assert not line.runs
            assert told == []

    run(test())


def test_one_that_fails_is_shown_and_tried_again(tmp_path: Path, relays: Callable[[str], Relay]) -> None:
    line = relays("line")
    line.mark("broken")

    async def test() -> None:
        async with serving(tmp_path, line.table(run_on="MASTER", vip="wan")) as (services, told):
            services.roles(["wan"])
            await until(lambda: told)
            assert told == ["line did not start: start: exit code 4: no carrier; tried again in 1 s"]
            (report,) = await services.list()
            assert report.problem == "did not start: start: exit code 4: no carrier"
            (line.directory / "broken").unlink()
            await until(lambda: line.runs)
            async with asyncio.timeout(20.0):
                while (report := (await services.list())[0]).problem:
                    await asyncio.sleep(0.02)  # it runs before its start command has ended
            assert report.state is State.RUNNING

    run(test())


def test_a_new_worker_takes_up_what_runs(tmp_path: Path, relays: Callable[[str], Relay]) -> None:
    line = relays("line")
    places = tmp_path / "run/services"

    async def test() -> None:
        table = line.table(run_on="MASTER", vip="wan")
        async with serving(tmp_path, table) as (services, _):
            services.roles(["wan"])
            await until(lambda: line.runs and not [*places.iterdir()])
        assert line.runs, "the end of the worker stops nothing"
        async with serving(tmp_path, table) as (services, _):
            services.roles(["wan"])
            await until(lambda: services._followers.next_deadline() is not None)
            assert line.calls == ["start line"]
            services.roles([])
            await until(lambda: not line.runs)

    run(test())


def test_a_stop_that_outlived_its_worker_is_waited_for(tmp_path: Path, relays: Callable[[str], Relay]) -> None:
    """The stop was begun by a worker that was killed; the next one starts the service only when it has ended."""
    line = relays("line")
    line.mark("slow-stop")
    places = tmp_path / "run/services"

    async def test() -> None:
        table = line.table(run_on="MASTER", vip="wan")
        async with serving(tmp_path, table) as (services, _):
            services.roles(["wan"])
            await until(lambda: line.runs)
        left = await asyncio.create_subprocess_exec(line.script, "stop", start_new_session=True)
        (places / "line").write_text(f'{{"pid": {left.pid}, "started": {start_ticks(left.pid)}}}')
        async with serving(tmp_path, table) as (services, _):
            services.roles(["wan"])
            await left.wait()
            await until(lambda: line.runs and not [*places.iterdir()])
            assert line.calls == ["start line", "stop ", "start line"]

    run(test())


def test_leaving_stops_the_followers_and_nothing_else(tmp_path: Path, relays: Callable[[str], Relay]) -> None:
    line, relay = relays("line"), relays("relay")

    async def test() -> None:
        services = Services(tmp_path / "run", lambda _kind, _text: None)
        services.load([line.table(run_on="MASTER", vip="wan"), relay.table()])
        services.roles(["wan"])
        await until(lambda: line.runs)
        assert (await services.act("relay", Action.START, "root")).ok
        await services.leave(10.0)
        assert not line.runs
        assert relay.runs

    run(test())


def test_a_follower_that_leaves_the_settings_as_its_vip_comes(tmp_path: Path, relays: Callable[[str], Relay]) -> None:
    """Before the orders of the one are carried out the other happens; those who stay are followed all the same."""
    line, other = relays("line"), relays("other")

    async def test() -> None:
        async with serving(tmp_path) as (services, told):
            stays = other.table(run_on="MASTER", vip="wan")
            services.load([line.table(run_on="MASTER", vip="lan"), stays])
            services.roles(["lan", "wan"])
            services.load([stays])
            await until(lambda: other.runs)
            assert not line.runs
            assert not any("StopIteration" in text for text in told)

    run(test())


def test_a_fault_in_following_is_told_and_followed_by_the_next_turn(
    tmp_path: Path, relays: Callable[[str], Relay], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = relays("line")
    monkeypatch.setattr("hacore.node.services.FAULT_PAUSE", 0.01)

    async def test() -> None:
        async with serving(tmp_path, line.table(run_on="MASTER", vip="lan")) as (services, told):
            with monkeypatch.context() as broken:
                broken.setattr(services, "_carry_out", lambda _order: 1 / 0)
                services.roles(["lan"])
                await until(lambda: told)
            assert told == ["services that follow a VIP: ZeroDivisionError: division by zero"]
            services.load([])
            services.load([line.table(run_on="MASTER", vip="lan")])
            await until(lambda: line.runs)

    run(test())


class PlayedSystemd(Systemd):
    """A manager of one unit, whose file may be another than the one that was read."""

    def __init__(self) -> None:
        super().__init__()
        self.outdated = False
        self.calls: list[str] = []

    async def status(self, unit: str) -> UnitStatus:
        return UnitStatus(unit, "loaded", "active", "running", "success", 1.0, 1.0, outdated=self.outdated)

    async def run_job(self, unit: str, action: str, timeout: float) -> JobResult:
        self.calls.append(f"{action} {unit}")
        return JobResult("done")

    async def reload(self) -> None:
        self.calls.append("reload")
        self.outdated = False


def test_a_unit_file_that_changed_is_read_before_the_unit_is_started(tmp_path: Path) -> None:
    async def test() -> None:
        systemd = PlayedSystemd()
        services = Services(tmp_path / "run", lambda _kind, _text: None, systemd)
        services.load([Service(id="web", unit="nginx.service")])
        try:
            for outdated in (False, True, False):
                systemd.outdated = outdated
                assert (await services.act("web", Action.RESTART, "root")).ok
            systemd.outdated = True
            assert (await services.act("web", Action.STOP, "root")).ok
        finally:
            await services.close()
        restart = "restart nginx.service"
        assert systemd.calls == [restart, "reload", restart, restart, "stop nginx.service"]

    run(test())
