"""What the status page costs and how fast it is, on two real nodes. A program, as root:

python bench/page.py cost --pages 200      # processor of the workers, without and with open pages, idle and busy
python bench/page.py first                 # from the request to the first content, over loopback, and in Chromium
python bench/page.py follow --repeat 5     # from a transition to its sight on an open page of either node
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

sys.path.insert(0, str(Path(__file__).parent.parent))

from playwright.sync_api import sync_playwright

from hacore.linux.process import cpu_time
from tests.web.pages import PASSWORD, PageNode, PagePair, Window, chromium, live, page_pair, wait_for

#: Connections that come and go each second on a busy node.
BUSY_RATE = 100


def tell(line: str) -> None:
    """On standard output, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def context() -> ssl.SSLContext:
    """Any certificate will do."""
    made = ssl.create_default_context()
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    return made


def place(node: PageNode) -> tuple[str, int]:
    """Where its page is."""
    host, _, port = node.url.removeprefix("https://").partition(":")
    return host, int(port)


def sign_in(node: PageNode) -> str:
    """The session's cookie; called in a namespace that reaches the node."""
    connection = http.client.HTTPSConnection(*place(node), context=context())
    form = urlencode({"user": "bob", "password": PASSWORD})
    headers = {"Origin": node.url, "Content-Type": "application/x-www-form-urlencoded"}
    connection.request("POST", "/login", form, headers)
    cookie = (connection.getresponse().getheader("Set-Cookie") or "").partition(";")[0]
    connection.close()
    assert cookie, "nobody was signed in"
    return cookie


# Cost


def read_pages(host: str, port: int, cookie: str, count: int) -> None:
    """Opens pages and reads what comes, until standard input ends; says how many bytes a second came to each."""

    tls = context()  # it takes longer to make than a connection

    async def one(received: list[int]) -> None:
        reader, writer = await asyncio.open_connection(host, port, ssl=tls)
        writer.write(f"GET /live/overview HTTP/1.1\r\nHost: {host}:{port}\r\nCookie: {cookie}\r\n\r\n".encode())
        while data := await reader.read(65536):
            received[0] += len(data)
        writer.close()
        raise ConnectionError("a page was hung up on")

    async def every() -> None:
        received = [0]
        tasks = [asyncio.create_task(one(received)) for _ in range(count)]
        await asyncio.sleep(3)
        tell("open")
        began, before = time.monotonic(), received[0]
        await asyncio.to_thread(sys.stdin.read)
        assert not any(task.done() for task in tasks), "a page was hung up on"
        tell(str(round((received[0] - before) / (time.monotonic() - began) / count)))
        for task in tasks:
            task.cancel()

    asyncio.run(every())


@contextmanager
def opened(pair: PagePair, count: int) -> Iterator[list[str]]:
    """So many pages of fw1, read by a process of their own."""
    said: list[str] = []
    if not count:
        yield said
        return
    with pair.client.entered():
        cookie = sign_in(pair.fw1)
    host, port = place(pair.fw1)
    command = [sys.executable, __file__, "read", host, str(port), cookie, str(count)]
    reader = pair.client.start(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert reader.stdout is not None
    assert reader.stdout.readline() == "open\n"
    yield said
    said.append(reader.communicate("")[0].strip())


def shares(node: PageNode, seconds: float) -> dict[str, float]:
    """Of one core, in percent, of each process of a node."""
    assert node.process is not None
    pids = {name: int(one["pid"]) for name, one in node.status()["node"]["workers"].items()}
    pids["supervisor"] = int(node.status()["node"]["pid"])
    before, began = {name: cpu_time(pid) for name, pid in pids.items()}, time.monotonic()
    time.sleep(seconds)
    taken = time.monotonic() - began
    return {name: 100 * (cpu_time(pid) - before[name]) / taken for name, pid in pids.items()}


class Traffic:
    """Connections that begin on fw1, so many each second."""

    def __init__(self, pair: PagePair, rate: int) -> None:
        self._pair, self._rate = pair, rate
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> None:
        if self._rate:
            self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._rate:
            self._thread.join()

    def _run(self) -> None:
        first = int(time.monotonic()) * self._rate % 20_000 + 1
        while not self._ended.wait(1.0):
            self._pair.connections(self._pair.fw1, self._rate, first)
            first += self._rate


def cost(pair: PagePair, pages: Sequence[int], seconds: float) -> None:
    """Prints a line for each number of pages, idle and busy."""
    for rate in (0, BUSY_RATE):
        for count in pages:
            with Traffic(pair, rate), opened(pair, count) as said:
                time.sleep(2)
                taken = shares(pair.fw1, seconds)
            figures = ", ".join(f"{name} {share:.1f} %" for name, share in sorted(taken.items()))
            each = f"; {said[0]} bytes/s a page" if said else ""
            tell(f"{count} pages, {rate} new connections/s: {figures}{each}")


# First content


def first(pair: PagePair, repeat: int) -> None:
    """From the start of the connection to the first byte of the page, and to the last; and the first paint."""
    with pair.fw1.host.entered():
        cookie = sign_in(pair.fw1)
        begun, whole = [], []
        tls = context()  # it takes longer to make than a connection
        for _ in range(repeat):
            started = time.perf_counter()
            connection = http.client.HTTPSConnection(*place(pair.fw1), context=tls)
            connection.request("GET", "/", headers={"Cookie": cookie, "Accept-Encoding": "gzip"})
            answer = connection.getresponse()
            begun.append(time.perf_counter() - started)
            size_bytes = len(answer.read())
            whole.append(time.perf_counter() - started)
            connection.close()
    tell(f"first byte {said(begun)}, whole page {said(whole)}, {size_bytes} bytes, with a new TLS connection each time")
    with (
        tempfile.TemporaryDirectory() as directory,
        sync_playwright() as playwright,
        chromium(playwright, pair.fw1.host, Path(directory)) as browser,
    ):
        painted = []
        for _ in range(max(3, repeat // 5)):
            window = Window(browser)
            page = window.sign_in(pair.fw1, user="bob")
            live(page)
            page.reload()
            live(page)
            painted.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime") / 1000)
            window.close()
        window = Window(browser)
        window.page.goto(pair.fw1.url)
        page = window.sign_in(pair.fw1, user="bob")
        live(page)
        sizes = (
            "[...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]"
            ".filter(one => !one.name.includes('/live/')).map(one => one.transferSize)"
        )
        carried = page.evaluate(sizes)
    tell(f"first contentful paint in Chromium {said(painted)}; {sum(carried)} bytes over the wire at the first visit")


def said(times: Sequence[float]) -> str:
    """Median and worst, in milliseconds."""
    return f"{1000 * statistics.median(times):.0f} ms (worst {1000 * max(times):.0f})"


# Follow


WATCHING = """() => {
  window.seen = {};
  const look = () => {
    for (const cell of document.querySelectorAll('#roles td')) {
      const key = cell.dataset.node + ' ' + cell.dataset.vip + ' ' + cell.querySelector('.chip').textContent;
      window.seen[key] ??= Date.now();
    }
  };
  look();
  new MutationObserver(look).observe(document.getElementById('roles'), { childList: true, subtree: true });
}"""


def follow(pair: PagePair, repeat: int, directory: Path) -> None:
    """From the transition, as the node's event says it, to the page that shows it."""
    with sync_playwright() as playwright, chromium(playwright, pair.client, directory) as browser:
        windows = {node.name: Window(browser) for node in pair.nodes}
        found: dict[str, list[float]] = {name: [] for name in windows}
        for node in pair.nodes:
            live(windows[node.name].sign_in(node))
        for _ in range(repeat):
            for window in windows.values():
                wait_for(window.page, "fw1", "MASTER")
                window.page.evaluate(WATCHING)
            after = pair.fw2.last_event()
            pair.fw1.hacore("maintenance", "enter")
            for name, window in windows.items():
                wait_for(window.page, "fw2", "MASTER")
                seen = window.page.evaluate("window.seen['fw2 lan MASTER']") / 1000
                event = next(one for one in pair.fw2.events("transition", after) if one["vip"] == "lan")
                found[name].append(seen - event["time"])
            pair.fw1.hacore("maintenance", "leave")
        for name, times in found.items():
            tell(f"page on {name}: fw2 became MASTER, seen after {said(times)}")
        for window in windows.values():
            wait_for(window.page, "fw2", "BACKUP")


def main() -> None:
    """The command line."""
    if sys.argv[1:2] == ["read"]:
        read_pages(sys.argv[2], int(sys.argv[3]), sys.argv[4], int(sys.argv[5]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["cost", "first", "follow"])
    parser.add_argument("--pages", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--repeat", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, page_pair(Path(directory)) as pair:
        if arguments.what == "cost":
            cost(pair, (0, 1, arguments.pages), arguments.seconds)
        elif arguments.what == "first":
            first(pair, 4 * arguments.repeat)
        else:
            follow(pair, arguments.repeat, Path(directory))


if __name__ == "__main__":
    main()
