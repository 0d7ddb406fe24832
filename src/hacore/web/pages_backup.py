"""Backup: the other node's services and sections, what brings it up to date, and the way back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from aiohttp import web
from msgspec import Struct

from hacore import __version__
from hacore.configsync.guards import Objection, receiver_objections, sender_objections
from hacore.control.config_schemas import (
    Against,
    AtPeer,
    Differences,
    OneRevision,
    PushOrder,
    RevisionAnswer,
    RollBackOrder,
    SectionNames,
)
from hacore.control.local_routes_config import LocalHandlers
from hacore.control.local_routes_services import Where, act
from hacore.control.problems import bad_request
from hacore.control.routes_services import OneAction
from hacore.services.service import Action, Outcome, Report
from hacore.web import orders
from hacore.web.comparison import Compared, Comparison
from hacore.web.jobs import Job, Jobs, feed_of
from hacore.web.live import Feed, Region
from hacore.web.local_calls import local_call
from hacore.web.registry import Call, Route
from hacore.web.watch import NodeView

if TYPE_CHECKING:
    from hacore.web.site import Site

Restart = Literal["none", "changed", "all"]
TITLES: Mapping[Restart, str] = {
    "none": "Update",
    "changed": "Update and restart changed",
    "all": "Update and restart all",
}
DONE = {Action.START: "started", Action.STOP: "stopped", Action.RESTART: "restarted"}


class OnPeer(Struct, kw_only=True):
    """The peer that is meant, "" for the only one."""

    peer: str = ""


class WantedUpdate(Struct, kw_only=True):
    """Which update."""

    peer: str = ""
    restart: Restart = "changed"


class Update(Struct, kw_only=True):
    """Which update; `overrides` are codes of guards that are not to stand in the way."""

    peer: str
    restart: Restart
    overrides: list[str] = []


class Return(Struct, kw_only=True):
    """A return to a revision."""

    peer: str
    restart: Restart = "changed"


class OneJob(Struct, kw_only=True):
    """Its number."""

    number: int


class Side(NamedTuple):
    """A peer: what it says of itself, how it compares, and what was begun for it here."""

    node: NodeView
    compared: Compared
    job: Job | None

    @property
    def services(self) -> list[Report]:
        """As it said last."""
        snapshot = self.node.snapshot
        return snapshot.control.services if snapshot is not None and snapshot.control is not None else []

    @property
    def services_seen(self) -> float:
        """When they were looked at, by this node's clock; 0: never."""
        snapshot = self.node.snapshot
        return self.node.local(snapshot.control.services_seen) if snapshot is not None and snapshot.control else 0.0


def routes(site: Site) -> list[Route]:
    """Found by the module's name."""
    part = Backup(site)
    return [
        Route("GET", "/backup", part.show, "Backup", menu=20),
        Route("GET", "/backup/difference", part.difference, "Difference", query=SectionNames),
        Route("GET", "/backup/revisions", part.revisions, "History", query=OnPeer),
        Route("GET", "/backup/revisions/{number}", part.revision, "Revision", parameters=OneRevision, query=OnPeer),
        Route("GET", "/jobs/{number}", part.job, "Backup", parameters=OneJob),
        Route("GET", "/backup/update", part.ask_update, "Update", needs="administrator", query=WantedUpdate),
        Route("POST", "/backup/update", part.update, "Update", needs="administrator", form=Update),
        Route(
            "GET", "/backup/revisions/{number}/restore", part.ask_restore, "Return", needs="administrator",
            parameters=OneRevision, query=OnPeer,
        ),
        Route(
            "POST", "/backup/revisions/{number}/restore", part.restore, "Return", needs="administrator",
            parameters=OneRevision, form=Return,
        ),
        Route("GET", "/backup/restart-all", part.ask_restart_all, "Restart all", needs="administrator", query=OnPeer),
        Route("POST", "/backup/restart-all", part.restart_all, "Restart all", needs="administrator", form=OnPeer),
        Route(
            "POST", "/backup/services/{id}/{action}", part.act, "Service", needs="administrator",
            parameters=OneAction, form=OnPeer,
        ),
    ]  # fmt: skip


class Backup:
    """The page, and those behind it."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._worker = site.worker
        self._handlers = LocalHandlers(site.worker)
        self._comparison = site.worker.part(Comparison)
        self._jobs = Jobs(site, lambda job: self._comparison.refresh(job.peer))
        feed = Feed(
            "backup",
            [Region("services", "_services.html", self._sides), Region("sections", "_sections.html", self._sides)],
        )
        site.live.add(feed)
        self._comparison.looked_at = lambda: bool(feed.followers)
        self._comparison.changed = site.live.changed

    def _sides(self, _now: float) -> Mapping[str, Any]:
        found = [self._side(one) for one in self._comparison.peers()]
        return {"sides": [one for one in found if one is not None], "titles": TITLES, "here": self._worker.name}

    def _side(self, compared: Compared) -> Side | None:
        node = self._site.watch.node(compared.name)
        return None if node is None else Side(node, compared, self._jobs.running(compared.name))

    def _of(self, name: str) -> Side:
        """Raises ApiError where there is no such peer."""
        found = self._side(self._comparison.peer(name))
        if found is None:
            raise bad_request(f"nothing is known of {name} yet")
        return found

    # Looking

    async def show(self, call: Call) -> web.Response:
        """All of it."""
        self._comparison.look()
        return call.page("backup.html", feed="backup", jobs=list(self._jobs.all())[:5])

    async def difference(self, call: Call) -> web.Response:
        """What an update would change in the sections that are named."""
        side = self._of(call.query.peer)
        query = SectionNames(sections=call.query.sections, peer=side.node.name)
        found = await self._handlers.difference(local_call(self._worker, call.by, query=query))
        return call.page("difference.html", found=found, peer=side.node.name, wanted=call.query.sections)

    async def revisions(self, call: Call) -> web.Response:
        """The whole history of the peer."""
        side = self._of(call.query.peer)
        answer = await self._handlers.revisions(local_call(self._worker, call.by, query=AtPeer(peer=side.node.name)))
        return call.page("revisions.html", peer=side.node.name, revisions=answer.revisions[::-1])

    async def revision(self, call: Call) -> web.Response:
        """What a revision changed."""
        peer, number = self._of(call.query.peer).node.name, call.parameters.number
        answer = await self._revision(call, peer, number)
        found = None
        if answer.revision.kind != "found":
            found = await self._between(call, peer, number, 0)
        return call.page("revision.html", peer=peer, answer=answer, found=found)

    async def _revision(self, call: Call, peer: str, number: int) -> RevisionAnswer:
        asked = local_call(self._worker, call.by, query=AtPeer(peer=peer), parameters=OneRevision(number=number))
        return await self._handlers.revision(asked)

    async def _between(self, call: Call, peer: str, number: int, to: int) -> Differences:
        asked = local_call(
            self._worker, call.by, query=Against(to=to, peer=peer), parameters=OneRevision(number=number)
        )
        return await self._handlers.revision_difference(asked)

    async def job(self, call: Call) -> web.Response:
        """Its steps, as they happen."""
        job = self._jobs.get(call.parameters.number)
        return call.page("job.html", feed=feed_of(job), job=job)

    # Asking before it is done

    async def ask_update(self, call: Call) -> web.Response:
        """What an update will do."""
        side, restart = self._of(call.query.peer), call.query.restart
        self._comparison.look()
        named = side.compared.sections.in_sync if side.compared.sections is not None else {}
        differing = [name for name, alike in named.items() if not alike]
        return call.page(
            "confirm_update.html", side=side, restart=restart, title_of=TITLES[restart], differing=differing,
            alike=[name for name, same in named.items() if same], objections=self._objections(side),
            services=self._restarted(side, restart, differing),
        )  # fmt: skip

    def _objections(self, side: Side) -> list[Objection]:
        """Those that are known before the nodes are asked; a push asks them in any case."""
        node, snapshot = side.node, side.node.snapshot
        if snapshot is None or not node.is_known():
            return []
        mine = {vip.name: self._worker.states.get(vip.name, "INIT") for vip in self._worker.settings.vips}
        theirs = {vip.name: vip.state for vip in snapshot.vips}
        answer = side.compared.sections.answer if side.compared.sections is not None else None
        changed = [one.id for one in answer.sections if one.changed] if answer is not None else []
        version = snapshot.node.version
        found = sender_objections(self._worker.name, mine, __version__, node.name, version)
        found += receiver_objections(node.name, theirs, version, self._worker.name, __version__, changed)
        return list({one.code: one for one in found}.values())

    def _restarted(self, side: Side, restart: Restart, differing: list[str]) -> list[str]:
        there = [one.id for one in side.services]
        if restart == "none":
            return []
        if restart == "all":
            return there
        wanted = {name for one in self._worker.settings.sections if one.id in differing for name in one.services}
        return [name for name in there if name in wanted]

    async def ask_restore(self, call: Call) -> web.Response:
        """What a return to a revision will change."""
        side, number = self._of(call.query.peer), call.parameters.number
        peer = side.node.name
        answer = await self._revision(call, peer, number)
        every = await self._handlers.revisions(local_call(self._worker, call.by, query=AtPeer(peer=peer)))
        last = every.revisions[-1].number
        found = await self._between(call, peer, last, number) if last != number else None
        return call.page("confirm_restore.html", peer=peer, answer=answer, last=last, found=found, side=side)

    async def ask_restart_all(self, call: Call) -> web.Response:
        """Which services it interrupts."""
        return call.page("confirm_restart.html", side=self._of(call.query.peer))

    # Doing

    async def update(self, call: Call) -> web.Response:
        """Begins it."""
        asked: Update = call.form
        peer = self._of(asked.peer).node.name
        order = PushOrder(peer=peer, restart=asked.restart, overrides=asked.overrides)
        call.record(f"{TITLES[asked.restart].lower()} on {peer}", peer=peer, restart=asked.restart)
        title = f"{TITLES[asked.restart]}: {peer}"
        job = self._jobs.begin("push", title, peer, call.by, orders.update(self._worker, order), restart=asked.restart)
        return call.redirect(f"/jobs/{job.number}")

    async def restore(self, call: Call) -> web.Response:
        """Begins it."""
        asked: Return = call.form
        peer, number = self._of(asked.peer).node.name, call.parameters.number
        call.record(f"returns {peer} to revision {number}", peer=peer, revision=number)
        work = orders.restore(self._worker, number, RollBackOrder(restart=asked.restart))
        job = self._jobs.begin("restore", f"Return {peer} to revision {number}", peer, call.by, work)
        return call.redirect(f"/jobs/{job.number}")

    async def restart_all(self, call: Call) -> web.Response:
        """Begins it."""
        peer = self._of(call.form.peer).node.name
        call.record(f"restarts all services of {peer}", peer=peer)
        work = orders.restart_services(self._worker)
        job = self._jobs.begin("restart", f"Restart all services: {peer}", peer, call.by, work)
        return call.redirect(f"/jobs/{job.number}")

    async def act(self, call: Call) -> web.Response:
        """One service; answers when it is done."""
        peer, asked = self._of(call.form.peer).node.name, call.parameters
        call.record(f"{asked.action.value} {asked.id} on {peer}", peer=peer, service=asked.id)
        done: Outcome = await act(local_call(self._worker, call.by, query=Where(peer=peer), parameters=asked))
        return call.fragment("_said.html", outcome=done, done=DONE[asked.action], peer=peer)
