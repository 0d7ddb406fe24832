"""Templates: the frame, the pages, and the regions that are sent again when they change.

An age in a region's text is a mark until the text goes out, so that two texts are the same where only time passed.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from hacore import __version__
from hacore.web import wording
from hacore.web.live import Region
from hacore.web.registry import Call
from hacore.web.verdict import verdict
from hacore.web.watch import STALE, NodeView

if TYPE_CHECKING:
    from hacore.web.site import Site

HERE = Path(__file__).parent
#: \x02UNIX\x03 is an age, \x02w:NAME\x03 that of a node's last word.
_MARK = re.compile("\x02([^\x03]*)\x03")


class Asset:
    """One file of `assets/`: as it is, compressed, and under a name that changes with it."""

    def __init__(self, name: str, kind: str) -> None:
        self.kind = kind
        self.data = (HERE / "assets" / name).read_bytes()
        self.gzipped = gzip.compress(self.data, 9, mtime=0)
        self.mark = hashlib.sha256(self.data).hexdigest()[:12]


class Rendering:
    """`site.rendering`."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.menu: Mapping[str, str] = {}
        self.assets = {
            "page.css": Asset("page.css", "text/css"),
            "icon.svg": Asset("icon.svg", "image/svg+xml"),
            "page.js": Asset("page.js", "text/javascript"),
            "htmx.js": Asset("vendor/htmx.min.js", "text/javascript"),
            "sse.js": Asset("vendor/htmx-ext-sse.min.js", "text/javascript"),
        }
        self._environment = Environment(
            loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
            lstrip_blocks=True, auto_reload=False,
        )  # fmt: skip
        self._environment.filters |= {
            "age": age, "moment": _moment, "day": _day, "number": wording.number, "size": wording.size,
            "lag": wording.lag, "duration": wording.duration, "listed": wording.listed,
        }  # fmt: skip
        self._environment.globals |= {
            "word": word,
            "zone": time.strftime("%Z"),
            "version": __version__,
            "node_name": site.worker.name,
        }

    @property
    def frame_regions(self) -> list[Region]:
        """What is live on every page."""
        return [Region("verdict", "_verdict.html", lambda now: {"verdict": verdict(self._site.watch.nodes, now)})]

    def region(self, template: str, values: Mapping[str, Any]) -> str:
        """One region, its ages still marks."""
        return self._environment.get_template(template).render(values)

    def finish(self, text: str, now: float) -> str:
        """Ages in the place of their marks, at the unix time `now`."""
        words = {f"w:{node.name}": node.at for node in self._site.watch.nodes}

        def said(match: re.Match[str]) -> str:
            moment = words[match[1]] if match[1] in words else float(match[1])
            return wording.duration(now - moment) if moment else "never"

        return _MARK.sub(said, text)

    def pulse(self, now: float) -> str:
        """When each node said its last word, for `page.js`."""
        nodes = "".join(f'<i data-of="{one.name}" data-at="{one.at:.2f}"></i>' for one in self._site.watch.nodes)
        return f'<b data-now="{now:.2f}"></b>{nodes}'

    def page(self, call: Call, template: str, status: int, feed: str, values: Mapping[str, Any]) -> web.Response:
        """A whole page."""
        now = time.time()
        texts = self._site.live.texts(feed, now) if feed else {}
        token = call.session.masked_token() if call.session is not None else ""
        text = self._environment.get_template(template).render(
            call=call, feed=feed, now=now, menu=self.menu, stale=STALE, form_token=token, title=call.route.title,
            token_field=functools.partial(_token_field, token), region=functools.partial(_region, texts),
            asset=functools.partial(self._place, public=call.session is None), nodes=self._site.watch.nodes,
            pulse=Markup(self.pulse(now)), **values,
        )  # fmt: skip
        return answer(call, self.finish(text, now), status)

    def fragment(self, call: Call, template: str, status: int, values: Mapping[str, Any]) -> web.Response:
        """A part of one."""
        now = time.time()
        token = call.session.masked_token() if call.session is not None else ""
        text = self._environment.get_template(template).render(
            call=call, now=now, form_token=token, token_field=functools.partial(_token_field, token), **values
        )
        return answer(call, self.finish(text, now), status)

    def _place(self, name: str, public: bool = False) -> str:
        return f"{'/login' if public else ''}/assets/{name}?v={self.assets[name].mark}"

    def asset(self, call: Call, name: str) -> web.Response:
        """A file; it never changes under its name."""
        one = self.assets[name]
        packed = "gzip" in call.request.headers.get("Accept-Encoding", "")
        headers = {"Cache-Control": "private, max-age=31536000, immutable", "Vary": "Accept-Encoding"}
        if packed:
            headers["Content-Encoding"] = "gzip"
        return web.Response(
            body=one.gzipped if packed else one.data, content_type=one.kind, charset="utf-8", headers=headers
        )


def answer(call: Call, text: str, status: int) -> web.Response:
    """HTML, compressed where the browser takes it: a form's token is another text each time."""
    response = web.Response(status=status, content_type="text/html", charset="utf-8", body=text.encode())
    if "gzip" in call.request.headers.get("Accept-Encoding", ""):
        response.body = gzip.compress(text.encode(), 6)
        response.headers["Content-Encoding"] = "gzip"
    return response


def age(moment: float) -> Markup:
    """How long ago a unix time is: "for {{ since | age }}", "{{ at | age }} ago"."""
    if not moment:
        return Markup("<span>never</span>")
    return Markup('<time datetime="{}" data-at="{:.1f}">\x02{:.1f}\x03</time>').format(_iso(moment), moment, moment)


def word(node: NodeView) -> Markup:
    """How old a node's last word is."""
    return Markup('<time data-word="{}">\x02w:{}\x03</time>').format(node.name, node.name)


def _moment(moment: float) -> Markup:
    """The time of day of a unix time, with the date where it is not today."""
    return Markup('<time datetime="{}">{}</time>').format(_iso(moment), wording.clock(moment, time.time()))


def _day(moment: float) -> Markup:
    """The date of a unix time."""
    return Markup('<time datetime="{}">{}</time>').format(
        _iso(moment), time.strftime("%Y-%m-%d", time.localtime(moment))
    )


def _iso(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(moment))


def _token_field(token: str) -> Markup:
    return Markup('<input type="hidden" name="token" value="{}">').format(token)


def _region(texts: Mapping[str, str], name: str, tag: str = "div", kind: str = "") -> Markup:
    """The element of a region, as it is now; htmx puts what is new into it."""
    return Markup('<{} id="{}" class="{}" sse-swap="{}">{}</{}>').format(
        Markup(tag), name, kind, name, Markup(texts[name]), Markup(tag)
    )
