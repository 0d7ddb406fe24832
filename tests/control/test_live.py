"""`GET /v1/live`: the status as it changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from hacore.control.live import WAITING_WORDS, Live, LiveWord
from hacore.control.pairs import Pairs
from hacore.control.problems import ApiError
from hacore.errors import NotRunning
from tests.control.worker_pair import Played, pair


def live(asker: Played) -> AsyncIterator[LiveWord]:
    return asker.worker.peer("fw2").stream("GET", "/live", response=LiveWord, silence=20.0)


def state(word: LiveWord) -> str:
    assert word.snapshot is not None
    return word.snapshot.vips[0].state


async def _nothing() -> None:
    """In the place of what is done already."""


async def until_word(words: AsyncIterator[LiveWord], condition: Any) -> LiveWord:
    async with asyncio.timeout(20):
        async for word in words:
            if condition(word):
                return word
    raise AssertionError("the stream ended")


def test_at_once_then_at_every_event_with_it(tmp_path: Path) -> None:
    async def run() -> None:
        async with pair(tmp_path) as (fw1, fw2):
            words = live(fw1)
            first = await anext(words)
            assert state(first) == "BACKUP"
            assert first.events == []
            fw2.bus.change("lan", "MASTER", 1)
            word = await until_word(words, lambda word: word.events)
            assert [event.fields["new"] for event in word.events] == ["MASTER"]
            assert state(word) == "MASTER"
            again = live(fw1)
            assert [event.seq for event in (await anext(again)).events] == [1], "who comes later is told what was"

    asyncio.run(run())


def test_it_ends_with_the_certificate_of_either_side(tmp_path: Path) -> None:
    async def run() -> None:
        async with pair(tmp_path) as (fw1, fw2):
            pairs = fw2.worker.part(Pairs)
            (theirs,), own = fw2.worker.trust.peers, pairs.own()
            assert own is not None
            for moment in (theirs.not_after, own.not_after):
                words = live(fw1)
                await anext(words)
                pairs.end_expired(min(theirs.not_after, own.not_after))
                fw2.bus.change("lan", "MASTER", 1)
                await until_word(words, lambda word: word.events)
                pairs.end_expired(moment + 1)
                with pytest.raises(ApiError) as caught:
                    await until_word(words, lambda _word: False)
                assert caught.value.code == "connection-lost"
                fw2.bus.change("lan", "BACKUP", 2)

    asyncio.run(run())


def test_nothing_is_asked_while_nobody_looks_on(tmp_path: Path) -> None:
    async def run() -> None:
        async with pair(tmp_path) as (_fw1, fw2):
            asked = [command for command, _arguments in fw2.bus.requests].count("status")
            fw2.worker.part(Live)._wake.set()
            await asyncio.sleep(0.1)
            assert [command for command, _arguments in fw2.bus.requests].count("status") == asked

    asyncio.run(run())


def test_the_most_eager_follower_says_how_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        waits: list[float] = []
        true_timeout = asyncio.timeout

        def noted(delay: float | None) -> asyncio.Timeout:
            waits.append(delay or 0.0)
            return true_timeout(delay)

        async with pair(tmp_path) as (_fw1, fw2):
            followed = fw2.worker.part(Live)
            seldom, often = followed.follow(9.0), followed.follow(5.0)
            await anext(seldom)
            monkeypatch.setattr("hacore.control.live.asyncio.timeout", noted)
            await anext(often)
            await asyncio.sleep(0)
            assert any(4.0 < wait <= 5.0 for wait in waits)
            await often.aclose()  # type: ignore[attr-defined]
            waits.clear()
            fw2.bus.change("lan", "MASTER", 1)
            await until_word(seldom, lambda word: word.events)
            await asyncio.sleep(0)
            assert any(8.0 < wait <= 9.0 for wait in waits)
            monkeypatch.undo()
            await seldom.aclose()  # type: ignore[attr-defined]

    asyncio.run(run())


def test_how_often_is_bounded(tmp_path: Path) -> None:
    async def run() -> None:
        async with pair(tmp_path) as (fw1, _fw2):
            for every in ("0.5", "11"):
                with pytest.raises(ApiError) as caught:
                    await anext(
                        fw1.worker.peer("fw2").stream("GET", "/live", query={"every": every}, response=LiveWord)
                    )
                assert caught.value.code == "bad-request"

    asyncio.run(run())


def test_a_supervisor_that_does_not_answer_is_a_word_too(tmp_path: Path) -> None:
    async def run() -> None:
        async with pair(tmp_path) as (fw1, fw2):
            words = live(fw1)
            await anext(words)

            async def silent(command: str, **_arguments: Any) -> dict[str, Any]:
                raise NotRunning(f"nobody answers {command}")

            fw2.bus.request = silent  # type: ignore[method-assign]
            word = await until_word(words, lambda word: word.snapshot is None)
            assert "nobody answers status" in word.problem

    asyncio.run(run())


def test_a_follower_that_does_not_read_is_dropped_and_the_others_are_not(tmp_path: Path) -> None:
    async def run() -> None:
        async with pair(tmp_path) as (fw1, fw2):
            slow = fw2.worker.part(Live).follow()
            await anext(slow)
            words = live(fw1)
            for number in range(WAITING_WORDS + 2):
                fw2.bus.change("lan", "MASTER" if number % 2 else "BACKUP", number)
                await until_word(words, lambda word, seq=number + 1: any(event.seq == seq for event in word.events))
            assert len([word async for word in slow]) < WAITING_WORDS

    asyncio.run(run())


def test_it_is_a_right_of_its_own(tmp_path: Path) -> None:
    async def run() -> None:
        async with pair(tmp_path, peer='allow = ["services"]') as (fw1, _fw2):
            with pytest.raises(ApiError) as caught:
                await anext(live(fw1))
            assert caught.value.code == "not-allowed"

    asyncio.run(run())


def test_a_worker_that_leaves_hangs_up(tmp_path: Path) -> None:
    async def run() -> None:
        async with pair(tmp_path) as (fw1, fw2):
            words = live(fw1)
            await anext(words)
            stopping = asyncio.create_task(fw2.worker.stop())
            async with asyncio.timeout(20):
                with suppress(ApiError):
                    async for _word in words:
                        pass
            await stopping
            fw2.worker.stop = _nothing  # type: ignore[method-assign] # it has stopped

    asyncio.run(run())
