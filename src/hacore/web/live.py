"""What is live on a page: server-sent events, rendered and compressed once for all who look at the same page.

A page's `Feed` is made of regions. When a node said something, each region of a feed that anybody looks at is rendered;
one whose text is another (ages apart) goes out as an event of its name, which htmx puts in its place. A pulse goes out
once a second in any case: how old the word of each node is, and that this connection lives.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from aiohttp import web

from hacore.control.problems import ApiError
from hacore.web.answering import secure
from hacore.web.registry import Call

if TYPE_CHECKING:
    from hacore.web.site import Site

PULSE_INTERVAL = 1.0
#: Between two renderings, however much happens.
SHORTEST_INTERVAL = 0.1
#: Messages that wait for a page; one that is behind by more is hung up on, and comes back by itself.
WAITING_MESSAGES = 32
#: Open pages: bounds the memory and the work.
PAGES = 500
RECONNECT_MS = 1000
WRITE_TIMEOUT = 20.0
#: A gzip stream's head; what follows are blocks that stand alone, so that all connections share them.
GZIP_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"

#: The values of a region's template at the unix time given.
Values = Callable[[float], Mapping[str, Any]]


class Region(NamedTuple):
    """A part of a page that changes: the id of its element, its template, and what that is rendered with."""

    name: str
    template: str
    values: Values


class Feed:
    """The regions of one page."""

    def __init__(self, name: str, regions: list[Region]) -> None:
        self.name = name
        self.regions = regions
        self.sent: dict[str, str] = {}
        self.first: tuple[float, bytes] | None = None
        self.followers: set[asyncio.Queue[bytes | None]] = set()


class Live:
    """`site.live`."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._feeds: dict[str, Feed] = {}
        self._wake = asyncio.Event()
        self._ended = False

    @property
    def pages(self) -> int:
        """How many are open."""
        return sum(len(feed.followers) for feed in self._feeds.values())

    def add(self, feed: Feed) -> None:
        """A page's feed; the frame's own region comes with it."""
        feed.regions = [*self._site.rendering.frame_regions, *feed.regions]
        self._feeds[feed.name] = feed

    def drop(self, name: str) -> None:
        """This feed is no more; who follows it is hung up on."""
        feed = self._feeds.pop(name, None)
        for follower in feed.followers if feed is not None else ():
            _put(follower, None)

    def changed(self) -> None:
        """Something is another than before."""
        if self.pages:
            self._wake.set()

    def end(self) -> None:
        """Hang up on everybody."""
        self._ended = True
        self._wake.set()
        for feed in self._feeds.values():
            for follower in feed.followers:
                _put(follower, None)

    async def run(self) -> None:
        """Send what changed, and a pulse."""
        pulsed = 0.0
        while not self._ended:
            self._wake.clear()
            now = time.monotonic()
            pulse = now - pulsed >= PULSE_INTERVAL
            pulsed = now if pulse else pulsed
            for feed in self._feeds.values():
                if feed.followers:
                    try:
                        self._refresh(feed, pulse)
                    except Exception as error:  # noqa: BLE001 - one page's bug is no other page's
                        self._site.worker.fault(f"web: rendering {feed.name}", error)
            if not self.pages:
                await self._wake.wait()
                continue
            await asyncio.sleep(SHORTEST_INTERVAL)
            left = PULSE_INTERVAL - (time.monotonic() - pulsed)
            stale = min((one.until_stale() for one in self._site.watch.nodes if one.until_stale()), default=left)
            try:
                async with asyncio.timeout(max(0.01, min(left, stale + 0.01))):
                    await self._wake.wait()
            except TimeoutError:
                pass

    def texts(self, feed: Feed | str, now: float) -> dict[str, str]:
        """Each region as it is now, with the marks of its ages."""
        if isinstance(feed, str):
            feed = self._feeds[feed]
        render = self._site.rendering.region
        return {region.name: render(region.template, region.values(now)) for region in feed.regions}

    def _refresh(self, feed: Feed, pulse: bool) -> None:
        now = time.time()
        texts = self.texts(feed, now)
        events = [self._event(name, text, now) for name, text in texts.items() if feed.sent.get(name) != text]
        feed.sent = texts
        if pulse or events:
            data = _compressed("".join([*events, self._pulse(now)]))
            for follower in list(feed.followers):
                _put(follower, data)

    def _first(self, feed: Feed) -> bytes:
        """What a page gets at its beginning; the same for all that come at once, as after a restart of the node."""
        now = time.time()
        if feed.first is None or now - feed.first[0] > SHORTEST_INTERVAL:
            events = [self._event(region, text, now) for region, text in self.texts(feed, now).items()]
            head = f"retry: {RECONNECT_MS}\n\n" + "".join(events) + self._pulse(now)
            feed.first = now, GZIP_HEAD + _compressed(head)
        return feed.first[1]

    def _event(self, name: str, text: str, now: float) -> str:
        lines = self._site.rendering.finish(text, now).splitlines()
        return f"event: {name}\n" + "".join(f"data: {line}\n" for line in lines if line.strip()) + "\n"

    def _pulse(self, now: float) -> str:
        return self._event("pulse", self._site.rendering.pulse(now), now)

    async def stream(self, call: Call, name: str) -> web.StreamResponse:
        """The answer to a page that wants to be told; ends with its session."""
        feed = self._feeds.get(name)
        if feed is None:
            raise ApiError(404, "not-found", "there is no such feed")
        if self.pages >= PAGES:
            raise ApiError(503, "busy", f"{PAGES} pages are open already")
        session = call.session
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Content-Encoding": "gzip", "Cache-Control": "no-store"}
        )
        secure(response)
        await response.prepare(call.request)
        mine: asyncio.Queue[bytes | None] = asyncio.Queue(WAITING_MESSAGES)
        feed.followers.add(mine)
        self._wake.set()
        try:
            data: bytes | None = self._first(feed)
            while data is not None and session is not None and not session.is_over(time.monotonic()):
                session.used = time.monotonic()
                async with asyncio.timeout(WRITE_TIMEOUT):
                    await response.write(data)
                data = await mine.get()
        except TimeoutError:
            if call.request.transport is not None:
                call.request.transport.abort()
        except ConnectionError:
            pass  # the page was closed
        finally:
            feed.followers.discard(mine)
        return response


def _compressed(text: str) -> bytes:
    """A block of a deflate stream that refers to nothing before it."""
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    return packer.compress(text.encode()) + packer.flush(zlib.Z_FULL_FLUSH)


def _put(follower: asyncio.Queue[bytes | None], data: bytes | None) -> None:
    try:
        follower.put_nowait(data)
    except asyncio.QueueFull:
        follower.get_nowait()
        follower.put_nowait(None)
