"""What takes a while and was begun on the page: pushes, returns to a revision, restarts of all services.

A job goes on whether or not somebody looks; its page shows each step as it happens, to all who look at it.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from hacore.configsync.report import Outcome, Progress
from hacore.control.config_schemas import Line
from hacore.control.problems import ApiError, not_found
from hacore.errors import HacoreError
from hacore.services.service import Outcome as ServiceOutcome
from hacore.web.live import Feed, Region

if TYPE_CHECKING:
    from hacore.web.site import Site

#: Jobs that are kept to be looked at.
KEPT = 20
REGIONS = {"job-now": "_job_now.html", "job": "_job.html"}
#: What a step is called while it runs.
NAMES = {
    "compare": "Compare",
    "send": "Send",
    "stage": "Stage",
    "check": "Check",
    "swap": "Swap",
    "apply": "Apply",
    "restart": "Restart",
    "verify": "Verify",
    "undo": "Put back",
}


@dataclass(slots=True)
class Step:
    """One line of a job; `begun` and `ended` in unix seconds."""

    name: str
    text: str
    begun: float
    ended: float = 0.0
    state: Literal["running", "done", "failed"] = "running"
    done: int = 0
    total: int = 0


@dataclass(slots=True)
class Job:
    """`result` is "running" until it ended, then "good", "notice" (it is done, but something is to be looked at) or
    "bad". `outcome` is that of a push or a return; `services` what became of those that were restarted one by one.
    """

    number: int
    kind: Literal["push", "restore", "restart"]
    title: str
    peer: str
    by: str
    begun: float
    again: dict[str, Any] = field(default_factory=dict)
    ended: float = 0.0
    result: Literal["running", "good", "notice", "bad"] = "running"
    steps: list[Step] = field(default_factory=list)
    outcome: Outcome | None = None
    services: list[ServiceOutcome] = field(default_factory=list)
    problem: ApiError | None = None

    @property
    def objections(self) -> list[tuple[str, str]]:
        """Code and message of each guard that stands against it."""
        listed = self.problem.details.get("objections", []) if self.problem is not None else []
        return [(str(code), str(message)) for code, message, *_ in listed]

    def take(self, progress: Progress) -> None:
        """A step begins, or goes on."""
        name = NAMES.get(progress.step, progress.step)
        last = self.steps[-1] if self.steps else None
        if last is not None and last.name == name and (last.text == progress.text or progress.total):
            last.text = progress.text
        else:
            self.finish_step("done")
            last = Step(name, progress.text, time.time())
            self.steps.append(last)
        last.done, last.total = progress.done, progress.total

    def finish_step(self, state: Literal["done", "failed"]) -> None:
        """The last one is over."""
        if self.steps and self.steps[-1].state == "running":
            self.steps[-1].state, self.steps[-1].ended = state, time.time()

    def begin_step(self, name: str, text: str) -> None:
        """One that this node takes by itself."""
        self.finish_step("done")
        self.steps.append(Step(name, text, time.time()))

    def restarted(self, one: ServiceOutcome) -> None:
        """A service was restarted, or not."""
        self.services.append(one)
        self.finish_step("done" if one.ok else "failed")


Work = Callable[[Job], AsyncIterator[Line | ServiceOutcome]]


class Jobs:
    """Of one site; `ended` is called with each that is over."""

    def __init__(self, site: Site, ended: Callable[[Job], None]) -> None:
        self._site, self._ended = site, ended
        self._jobs: dict[int, Job] = {}
        self._number = 0

    def all(self) -> Iterable[Job]:
        """The newest first."""
        return reversed(self._jobs.values())

    def get(self, number: int) -> Job:
        """Raises ApiError for one that is not kept."""
        if number not in self._jobs:
            raise not_found("this is not known any more", "what became of it stands in the event history")
        return self._jobs[number]

    def running(self, peer: str) -> Job | None:
        """What is under way for this peer."""
        return next((job for job in self.all() if job.peer == peer and job.result == "running"), None)

    def begin(
        self, kind: Literal["push", "restore", "restart"], title: str, peer: str, by: str, work: Work, **again: Any
    ) -> Job:
        """Starts it; `again` are the values with which it can be asked for anew."""
        self._number += 1
        job = Job(self._number, kind, title, peer, by, time.time(), again)
        self._jobs[job.number] = job
        shown = [Region(name, template, lambda _now: {"job": job}) for name, template in REGIONS.items()]
        self._site.live.add(Feed(feed_of(job), shown))
        for old in sorted(self._jobs)[:-KEPT]:
            if self._jobs[old].result != "running":
                self._site.live.drop(feed_of(self._jobs.pop(old)))
        self._site.worker.spawn(self._run(job, work), title)
        return job

    async def _run(self, job: Job, work: Work) -> None:
        try:
            async for line in work(job):
                if isinstance(line, ServiceOutcome):
                    job.restarted(line)
                elif line.progress is not None:
                    job.take(line.progress)
                elif line.outcome is not None:
                    job.outcome = line.outcome
                    job.finish_step("failed" if line.outcome.failure else "done")
                self._site.live.changed()
        except ApiError as error:
            job.problem = error
        except HacoreError as error:
            job.problem = ApiError(500, "failed", str(error))
        except BaseException as error:
            job.problem = ApiError(500, "internal", f"a fault of this node: {type(error).__name__}: {error}")
            raise
        finally:
            job.finish_step("failed" if job.problem is not None else "done")
            job.ended = time.time()
            job.result = _result(job)
            self._ended(job)
            self._site.live.changed()


def feed_of(job: Job) -> str:
    """The name of what is live on its page."""
    return f"job-{job.number}"


def _result(job: Job) -> Literal["good", "notice", "bad"]:
    failed = job.outcome is not None and job.outcome.failure is not None
    if job.problem is not None or failed or any(not one.ok for one in job.services):
        return "bad"
    return "notice" if job.outcome is not None and (job.outcome.notes or job.outcome.undo) else "good"
