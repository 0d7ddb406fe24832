"""The states worker: `python -m hacore.node.states CHANNEL_FD`. A plain loop around `hacore.states.Replication`.

What the kernel's connection table does goes to the peers, and what the peers own goes into the kernel, as it comes. It
may use a core for itself: nobody waits for it.
"""

from __future__ import annotations

import gc
import math
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from hacore._fast import ctnetlink
from hacore.errors import HacoreError
from hacore.linux import conntrack, libc
from hacore.linux.file_watch import FileWatch
from hacore.linux.sysctl import Changes
from hacore.node.channel import Channel
from hacore.node.loop import READ, WRITE, Loop, Timer
from hacore.node.messages import (
    SIGN_OF_LIFE,
    AskFigures,
    AskStates,
    ConfigureStates,
    Held,
    Ready,
    StatesAnswer,
    StatesCondition,
    StatesEvent,
    StatesFigures,
    ToStates,
)
from hacore.node.states_conflicts import Conflicts
from hacore.node.states_credentials import Credentials
from hacore.node.states_epoch import EpochFile
from hacore.node.states_filter import Filter
from hacore.node.states_injection import InjectionQueue, operations_of
from hacore.node.states_kernel import KernelFollower
from hacore.node.states_peers import Peers
from hacore.node.states_reports import Reports, sentence
from hacore.node.states_upkeep import Upkeep
from hacore.node.states_windows import Windows
from hacore.states import events as told
from hacore.states.replica import Work
from hacore.states.replication import Replication, ReplicationSettings

# Seconds between two looks at the certificates: where the kernel does not tell of changes, this is how long a revoked
# peer goes on; and where it does.
CERTIFICATES_INTERVAL = 0.25
CERTIFICATES_SLOW_INTERVAL = 10.0
CHANGES_FILE = "states-sysctl.json"
SILENCE_EXPLAINED = 5.0  # seconds for which nobody asks why there are no streams yet
LEAVE_LIMIT = 1.0  # seconds until what is left goes unsent
# Rows that may wait for the kernel, in its queue and before it, while more is taken from the peers: with the frame that
# is handled last, less than 5 ms of work, which is what a takeover has to wait for.
QUEUED_ROWS, PENDING_ROWS = 1024, 256
BULK_ROWS, BULK_WINDOW = 1024, 64  # so that a chunk of a bulk update is no more than that, either
ACK_INTERVAL = 0.02  # seconds between acknowledgements of a replica that follows
EXTRA_INTERVALS = 2  # a copy outlives its original by so many intervals of comparison
LARGEST_SLACK = (
    5  # seconds by which a timeout may be off before it is sent; a quarter of the interval where that is less
)


def clock() -> float:
    """Seconds that never go back and count sleep."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class StatesWorker:
    """Owns the replication, the kernel's two sockets and the peers' connections."""

    def __init__(self, channel: Channel[ToStates], configuration: ConfigureStates, loop: Loop) -> None:
        self.channel, self.configuration, self.loop = channel, configuration, loop
        self.started = time.time()
        self.held: frozenset[str] = frozenset()
        self.warnings: dict[str, str] = {}
        self.epoch_file = EpochFile(Path(configuration.state_dir))
        self.replication = Replication(
            ReplicationSettings(
                name=configuration.node,
                max_states=configuration.max_states,
                bulk_rows=BULK_ROWS,
                bulk_window=BULK_WINDOW,
                pending_rows=PENDING_ROWS,
                ack_interval=ACK_INTERVAL,
                reconcile_slack=max(1, min(LARGEST_SLACK, int(configuration.reconcile_interval / 4))),
            ),
            instance=os.urandom(16),
            seed=os.urandom(16),
            digest_key=os.urandom(16),
            epoch=self.epoch_file.read(),
        )
        self.injector = conntrack.Injector(
            extra_timeout=1 + math.ceil(EXTRA_INTERVALS * configuration.reconcile_interval)
        )
        self.queue = InjectionQueue(self.injector)
        self.conflicts = Conflicts(self.replication, self.queue, clock, lambda text: self.tell("states", text))
        self.wanted = Filter(configuration.ignore, configuration.own_places)
        self.kernel = KernelFollower(
            loop,
            self.replication,
            self.wanted,
            self.injector.portid,
            configuration.virtual_addresses,
            configuration.reconcile_interval,
            clock,
            self.turn,
            self._kernel_problem,
            buffer_bytes=configuration.event_buffer_bytes,
        )
        self.upkeep = Upkeep(
            loop,
            self.replication,
            self.queue,
            configuration.reconcile_interval,
            clock,
            self.turn_soon,
            lambda text: self.tell("states", text),
        )
        self.windows = Windows(
            loop,
            self.replication.table,
            self.queue,
            Changes(Path(configuration.runtime_dir) / CHANGES_FILE),
            self.turn_soon,
            lambda text: self.tell("states", text),
        )
        self.credentials = Credentials(
            Path(configuration.certificate), Path(configuration.key), Path(configuration.trust)
        )
        self.watch = FileWatch()
        self._certificates_look: Timer | None = None
        self.peers = Peers(
            loop,
            self.replication,
            self.credentials,
            self.kernel.filter_now,
            clock,
            self.turn_soon,
            lambda text: self.tell("states peer", text),
        )
        self.reports = Reports(self)
        self._is_told = False  # what it is MASTER of
        self._silent_since = loop.now()  # since when `Peers.is_open` may be False
        self._unread_reason = ""
        self._turn: Timer | None = None
        self._deadline: Timer | None = None
        self._said: StatesCondition | None = None
        self._leaving_until: float | None = None

    @staticmethod
    def clock() -> float:
        """The machines' time."""
        return clock()

    def start(self) -> None:
        """From now on all happens in the loop."""
        self.loop.register(self.channel.fileno(), self.hear)
        self.loop.register(self.queue.fileno(), lambda _events, _now: self.turn_soon())
        self._keep_events(self.loop.now())
        self.peers.listen(*self.configuration.listen)
        for peer in self.configuration.peers:
            self.peers.add(peer.name, peer.host, peer.port)
        if self.credentials.problem:
            self.tell("states", f"no streams: {self.credentials.problem}")
        if self.watch.fileno() >= 0:
            self.loop.register(self.watch.fileno(), self._certificates_told)
        self._look_at_certificates(self.loop.now())
        self._say_condition(self.loop.now())
        self.upkeep.start()

    def _certificates_told(self, _events: int, now: float) -> None:
        if self.watch.read() and self._certificates_look is not None:
            self._certificates_look.cancel()
            self._look_at_certificates(now)

    def _look_at_certificates(self, now: float) -> None:
        """Pairing, renewal and revocation take effect without a restart."""
        self.watch.follow(self.credentials.files)
        before = self.credentials.problem
        if self.credentials.look():
            problem = self.credentials.problem
            if problem != before:
                self.tell(
                    "states", f"no streams: {problem}" if problem else "certificates are there: streams may begin"
                )
            self.peers.credentials_changed()
            self._say_condition_if_new()
        is_told = self.watch.works and self.credentials.is_settled
        pause = CERTIFICATES_SLOW_INTERVAL if is_told else CERTIFICATES_INTERVAL
        self._certificates_look = self.loop.call_at(now + pause, self._look_at_certificates)

    def _keep_events(self, now: float) -> None:
        """Entries that are born now have to speak when this node is promoted."""
        try:
            conntrack.keep_events()
            self.warnings.pop("events", None)
        except HacoreError as error:
            self.warnings["events"] = str(error)
            self.loop.call_at(now + 5.0, self._keep_events)

    # A turn

    def turn_soon(self) -> None:
        """Something came: work it off before the loop waits again."""
        if self._turn is None or not self._turn.pending:
            self._turn = self.loop.call_soon(self._run_turn)

    def turn(self) -> None:
        """Work it off now."""
        if self._turn is not None:
            self._turn.cancel()
        self._run_turn(self.loop.now())

    def _run_turn(self, _now: float) -> None:
        now = clock()
        due = self.replication.next_deadline()
        if due is not None and due <= now:
            self.replication.handle_deadline(now)
        self._inject()
        for link in self.peers.links():
            if link.has_something:
                link.connection.flush()
        events = self.replication.events()
        if events:  # the condition changes with none of them, but not without
            for event in events:
                self._take(event)
            self._say_condition_if_new()
        self._open_or_hold()
        self._plan()

    def _inject(self, *, everything: bool = False) -> None:
        """Hand rows to the kernel: a slice, or all there is."""
        replica = self.replication.replica
        while everything or self.queue.waiting_rows < QUEUED_ROWS:
            works = replica.work(QUEUED_ROWS)
            if not works:
                break
            for work in works:
                self._queue_work(work)
        more = self.queue.work(everything=everything)
        for link in self.peers.links():
            taking = link.session.role == "origin" or not (self.queue.is_busy or replica.pending_rows)
            more |= link.go_on(taking)
        if more or (replica.pending_rows and self.queue.waiting_rows < QUEUED_ROWS):
            self.turn_soon()

    def _queue_work(self, work: Work) -> None:
        def done() -> None:
            self.replication.replica.done(work, clock())
            self.turn_soon()

        if work.expectations_gone is not None and len(work.expectations_gone):
            gone = np.full(len(work.expectations_gone), ctnetlink.DELETE, np.uint8)
            self.queue.put(work.expectations_gone, gone, expectations=True)
        if len(work.deleted):
            self.queue.put(work.deleted, np.full(len(work.deleted), ctnetlink.DELETE, np.uint8))
        operations = operations_of(work, yields=self.replication.ownership.master)
        if work.expectations is None:
            self.queue.put(*operations, done)
            return
        self.queue.put(*operations)
        self.queue.put(work.expectations, None, done, expectations=True)

    def _plan(self) -> None:
        """Come again when the machines want to, or before: most deadlines move on with every word of a peer."""
        due = self.replication.next_deadline()
        if due is None:
            return
        when = self.loop.now() + max(0.0, due - clock())
        if self._deadline is not None:
            if self._deadline.pending and self._deadline.when <= when:
                return
            self._deadline.cancel()
        self._deadline = self.loop.call_at(when, self._run_turn)

    def _take(self, event: told.AnyEvent) -> None:
        if isinstance(event, told.EpochRaised):
            self.epoch_file.write(event.epoch)
        elif isinstance(event, told.Synced) and event.role == "replica" and not self.held:
            self.windows.rest()
        self.reports.note(event)
        kind, text = sentence(event)
        self.tell(kind, text, time.time() - (clock() - event.at))

    # The supervisor

    def hear(self, _events: int, _now: float) -> None:
        """Messages of the supervisor."""
        if self.channel.wants_write:
            self.channel.flush()
        for message in self.channel.receive():
            if isinstance(message, Held):
                self._hold(frozenset(message.vips))
            elif isinstance(message, AskStates):
                self._answer(message)
            elif isinstance(message, AskFigures):
                self.channel.send(StatesFigures(self.reports.status()))
            elif not isinstance(message, ConfigureStates):
                self.leave()
        if self.channel.closed:
            self.loop.unregister(self.channel.fileno())
            self.leave()
        else:
            self._watch_channel()

    def _watch_channel(self) -> None:
        if not self.channel.closed:
            self.loop.modify(self.channel.fileno(), READ | WRITE if self.channel.wants_write else READ)

    def _hold(self, held: frozenset[str]) -> None:
        """The VIPs of which this node is MASTER now."""
        promoted = bool(held - self.held)
        if promoted:
            self.windows.pause()
            self._inject(everything=True)
        if self.held - held:
            self.windows.lose()
        self.held = held
        if not held:
            self.kernel.stop()
            self.windows.rest()
        self.replication.set_master(bool(held), clock(), promoted=promoted)
        self._is_told = True
        self._open_or_hold()
        if held:
            self.kernel.start(known=self.replication.origin.knows_kernel)
        self.turn_soon()

    def _open_or_hold(self) -> None:
        """A worker that starts anew on a MASTER reads the kernel's table before anybody hears of it: its peers would
        take out of their kernels what is not in its table yet.
        """
        if (self._is_told and self.replication.may_speak) != self.peers.is_open:
            self._silent_since, self._unread_reason = self.loop.now(), ""
            self.peers.set_open(not self.peers.is_open)
            self._say_condition_if_new()

    def _kernel_problem(self, text: str) -> None:
        if not self.peers.is_open:
            self._unread_reason = text
            self._say_condition_if_new()
        self.tell("states", text)

    @property
    def problem(self) -> str:
        """Why there are no streams, "" where there may be some."""
        if self.credentials.problem or self.peers.is_open:
            return self.credentials.problem
        if self._unread_reason:
            return f"the kernel's table has yet to be read: {self._unread_reason}"
        silent = self.loop.now() - self._silent_since
        return "the kernel's table has yet to be read to its end" if silent >= SILENCE_EXPLAINED else ""

    def _answer(self, question: AskStates) -> None:
        answer: dict[str, Any] = {}
        refusal = ""
        try:
            answer = self.reports.answer(question.action, question.arguments)
        except (HacoreError, ValueError, TypeError) as error:
            refusal = str(error)
        self.channel.send(StatesAnswer(number=question.number, answer=answer, refusal=refusal))
        self._watch_channel()

    def tell(self, kind: str, text: str, at: float | None = None) -> None:
        """For the node's history."""
        self.channel.send(StatesEvent(kind=kind, text=text, at=time.time() if at is None else at))
        self._watch_channel()

    def _condition(self) -> StatesCondition:
        receiving = {
            name: peer.receiving.session for name, peer in self.peers.known.items() if peer.receiving is not None
        }
        greeted = {name: session for name, session in receiving.items() if session.peer and not session.ended}
        return StatesCondition(
            connected=sorted(greeted),
            awaited=sorted(name for name, session in greeted.items() if not session.synced),
            problem=self.problem,
        )

    def _say_condition_if_new(self) -> None:
        condition = self._condition()
        if condition != self._said:
            self._said = condition
            self.channel.send(condition)
            self._watch_channel()

    def _say_condition(self, now: float) -> None:
        self._said = self._condition()
        self.channel.send(self._said)
        self._watch_channel()
        self.loop.call_at(now + SIGN_OF_LIFE, self._say_condition)

    # The end

    def leave(self) -> None:
        """Hand on what there is, then end."""
        if self._leaving_until is None:
            self._leaving_until = self.loop.now() + LEAVE_LIMIT
            self.kernel.stop()
            self.upkeep.close()
            self.windows.close()
            self._finish(self.loop.now())

    def _finish(self, now: float) -> None:
        assert self._leaving_until is not None
        self._run_turn(now)
        sending = [peer.sending for peer in self.peers.known.values() if peer.sending is not None]
        behind = self.replication.lag or any(link.connection.pending_bytes for link in sending)
        if behind and now < self._leaving_until:
            self.loop.call_at(now + 0.01, self._finish)
            return
        for link in self.peers.links():
            link.session.end("the node stops", clock())
            link.connection.flush()
        self.peers.close("the node stops")
        self.channel.flush()
        self.epoch_file.close()
        self.loop.stop()


def main() -> None:
    """Entry of the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    libc.set_process_name("hacore-states")
    libc.forbid_core_dumps()
    channel: Channel[ToStates] = Channel(socket.socket(fileno=int(sys.argv[1])), ToStates)
    failures: list[str] = []

    def on_error(where: str, error: Exception) -> None:
        # A half-done turn is not to be trusted: the supervisor starts the worker anew, and the peers resynchronise.
        failures.append(f"{where}: {type(error).__name__}: {error}")
        channel.send(StatesEvent(kind="fault", text=f"states worker: {failures[-1]}", at=time.time()))
        channel.flush()
        import traceback

        traceback.print_exception(error)
        loop.stop()

    loop = Loop(on_error)
    waiting: list[ToStates] = []
    while not any(isinstance(message, ConfigureStates) for message in waiting):
        if channel.closed:
            return
        _wait_for(channel)
        waiting += channel.receive()
    configuration = next(message for message in waiting if isinstance(message, ConfigureStates))
    try:
        worker = StatesWorker(channel, configuration, loop)
        worker.start()
    except (HacoreError, OSError, MemoryError) as error:
        channel.send(StatesEvent(kind="states", text=f"the states worker cannot start: {error}", at=time.time()))
        channel.flush()
        sys.exit(getattr(error, "exit_code", 1))
    loop.on_signals({signal.SIGTERM: worker.leave})
    channel.send(Ready(refused=[]))
    for message in waiting:
        if isinstance(message, Held):
            worker._hold(frozenset(message.vips))
    gc.collect()
    gc.freeze()
    loop.run()
    if failures:
        sys.exit(70)


def _wait_for(channel: Channel[ToStates]) -> None:
    import select

    select.select([channel.fileno()], [], [])


if __name__ == "__main__":
    main()
