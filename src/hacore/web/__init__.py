"""The status page: one page, on either node, that says how the pair is and lets one act on it.

It runs inside the control worker: `python -m hacore.web` is `hacore.node.control` with the part `site.Site`.

| file | what |
|---|---|
| `access`, `sessions`, `lockout` | users and tokens (the file), who is signed in, wrong passwords |
| `registry` | `Route`, `Call`; **a page is a module `pages_NAME.py` with `routes(site)`**, found by its name |
| `answering` | from a `Route` to an answer: session or token, role, origin, form token, security headers |
| `listener`, `site` | HTTPS; `Site` holds everything: `site.watch`, `site.live`, `site.access`, `site.worker` |
| `watch` | what this node and each peer say now: `watch.nodes`, a `NodeView` each, and why there is no word |
| `hour` | the figures of the last hour, for the charts (`charts` draws them as SVG) |
| `live` | server-sent events: a `Feed` is the `Region`s of one page; each is rendered once for all who look at it |
| `rendering` | jinja2: filters for ages, moments, numbers; the whole page and its parts |
| `templates/` | `base.html` is the frame; `pages` extend it; a region's template is `_NAME.html` |
| `assets/` | `page.css`, `page.js`, `vendor/` (htmx and its SSE extension, unmodified) |

How a page becomes live. Its module makes a feed, once:

    site.live.add(Feed("vips", [Region("vip-table", "_vip_table.html", lambda now: {"nodes": site.watch.nodes})]))

its handler answers `call.page("vips.html", feed="vips", ...)`, and the template shows `{{ region("vip-table") }}`. The
feed renders a region when something changed and sends it only if the text is another; ages are not part of that
comparison, since `page.js` counts them on. So a template says `{{ vip.since | age }}` and never computes with the
time itself. A figure of another node comes with that node's word: `{{ word(node) }}` is how old it is, and a block
with `data-node="{{ node.name }}"` turns grey in the browser when nothing came for three seconds, whatever the cause.

Actions are posts to routes that need an "administrator", from a `<form method="post">` with `{{ token_field() }}`, or
from htmx, whose header carries the token by itself. They call the parts that the command line uses, and say
`call.record(...)` so that the event history tells who did it. In a region, which all users see alike, whatever only
administrators may use has the class `act`: the frame hides it from viewers, and the route refuses them in any case; it
posts by htmx (`hx-post`), because a region holds no token.
"""
