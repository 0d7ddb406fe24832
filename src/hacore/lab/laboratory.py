"""A lab from its making to its end: built, entered by a later process, and taken away whatever happened to it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from hacore.errors import AlreadyRunning, HacoreError, NotRunning
from hacore.lab import faults, namespaces, nodes, record, rights, topology
from hacore.lab.record import Process, Record
from hacore.linux import termination
from hacore.linux.process import start_ticks

_PATIENCE = 5.0


class Lab:
    """A lab that is up. `directory` holds all its files, `record` what has to be taken away."""

    def __init__(
        self,
        directory: Path,
        known: Record,
        node_command: Sequence[str] | None = None,
        kind: type[nodes.Node] = nodes.Node,
    ) -> None:
        self.directory = directory
        self.record = known
        self.paths = {role: Path(path) for role, path in known.namespaces.items()}
        self.nodes = {
            name: kind(name, directory / name, self.paths[name], node_command)
            for name in topology.NODES
            if name in self.paths
        }
        for process in known.processes:
            if process.role in self.nodes:
                self.nodes[process.role].supervisor = process
        self.faults = faults.Faults(self.paths[topology.SWITCH])

    @property
    def profile(self) -> nodes.Profile:
        """The intervals that the nodes are configured with."""
        return nodes.PROFILES[self.record.profile]

    @property
    def intervals(self) -> nodes.Intervals:
        """The times of the pair, whatever program it runs."""
        return self.preferred.profiles[self.record.profile]

    @property
    def preferred(self) -> nodes.Node:
        """The node with the lower advskew."""
        return self.nodes[topology.NODES[0]]

    def other(self, node: nodes.Node) -> nodes.Node:
        """The peer of `node`."""
        return next(peer for peer in self.nodes.values() if peer is not node)

    def start(self, node: nodes.Node) -> None:
        """Start a node and remember its process."""
        started = node.start()
        self.record.processes = [*(process for process in self.record.processes if process.role != node.name), started]
        record.save(self.directory, self.record)

    def configure(
        self, profile: str, preempt: bool, vips: Sequence[topology.Vip] | None = None, *, states: bool = False
    ) -> None:
        """Write both settings files, with other VIPs than the two gateways where they are given; nodes that run do not
        notice. `states`: they replicate their connections.
        """
        self.record.profile, self.record.preempt, self.record.states = profile, preempt, states
        record.save(self.directory, self.record)
        password = nodes.new_password()
        for node in self.nodes.values():
            node.configure(profile, preempt, password, topology.gateways() if vips is None else vips, states=states)
        if states:
            self.preferred.acquaint(list(self.nodes.values()), self.directory)

    def stop_nodes(self) -> None:
        """Tell both nodes to stop and wait; kill what does not."""
        for node in self.nodes.values():
            if node.running() and node.supervisor is not None:
                faults.signal_all(node.processes(), signal.SIGCONT)
                faults.signal_all([node.supervisor.pid], signal.SIGTERM)
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline and any(node.running() for node in self.nodes.values()):
            time.sleep(0.02)
        for node in self.nodes.values():
            faults.signal_all(node.processes(), signal.SIGKILL)

    def holders(self) -> dict[str, set[str]]:
        """The virtual addresses that each node's kernel has now, by node name."""
        return {name: topology.held_addresses(node.namespace) for name, node in self.nodes.items()}


def _namespace_directory(directory: Path, granted: str) -> Path:
    return Path("/run/netns") if granted == rights.ROOT else directory / "netns"


def create(
    directory: Path,
    *,
    profile: str,
    preempt: bool,
    owned: bool,
    states: bool = False,
    start: bool = True,
    node_command: Sequence[str] | None = None,
    kind: type[nodes.Node] = nodes.Node,
) -> Lab:
    """Build a lab and start its nodes; call it with the lab's lock held.

    owned: the lab is worth nothing without this process, and may be taken away by anybody once it is gone.
    AlreadyRunning where it is up. On any failure nothing is left.
    """
    if record.load(directory) is not None:
        raise AlreadyRunning(f"the lab {directory.name!r} is up already: `hacore lab down` ends it")
    granted = rights.available()
    known = Record(name=directory.name, rights=granted, profile=profile, preempt=preempt)
    known.owner = Process.of(os.getpid(), "owner") if owned else None
    paths = topology.namespace_paths(directory.name, _namespace_directory(directory, granted))
    for role, path in paths.items():
        if path.exists():
            raise AlreadyRunning(
                f"the network namespace {path} ({role}) exists and is not this lab's; take another --name"
            )
    known.namespaces = {role: str(path) for role, path in paths.items()}
    record.save(directory, known)
    try:
        if granted == rights.USER:
            rights.enter_user_namespace()
            known.keeper = rights.start_keeper(directory)
            record.save(directory, known)
        # Namespaces first: unlocking may take this process into a mount namespace that nobody else sees.
        topology.make_namespaces(paths)
        rights.unlock_sysctls()
        topology.build(paths)
        lab = Lab(directory, known, node_command, kind)
        lab.configure(profile, preempt, states=states)
        if start:
            for node in lab.nodes.values():
                lab.start(node)
    except BaseException:
        with termination.ignored():  # a terminal that closes sends more than one
            destroy(directory, known)
        raise
    return lab


def attach(directory: Path) -> Lab:
    """A lab that another process built, with this process moved to where its namespaces can be entered.

    NotRunning where it is not up.
    """
    known = record.load(directory)
    if known is None:
        raise NotRunning(f"there is no lab {directory.name!r}: `hacore lab up` makes one")
    if known.keeper is not None:
        rights.join(known.keeper)
    rights.unlock_sysctls()
    return Lab(directory, known)


def destroy(directory: Path, known: Record) -> None:
    """End every process of the lab, remove its namespaces and its files. Works on whatever is left of one."""
    pids: list[int] = []
    for process in known.processes:
        if process.alive():
            pids += nodes.tree(process.pid)
    faults.signal_all(pids, signal.SIGSTOP)
    deadline = time.monotonic() + _PATIENCE
    left = set(pids) | set(nodes.marked(directory))
    while left and time.monotonic() < deadline:
        faults.signal_all(sorted(left), signal.SIGKILL)
        left = {pid for pid in left if start_ticks(pid)} | set(nodes.marked(directory))
        if left:
            time.sleep(0.01)
    for path in known.namespaces.values():
        namespaces.remove(Path(path))
    record.forget(directory)
    if left:
        raise HacoreError(f"processes of the lab {directory.name!r} did not end: {', '.join(map(str, sorted(left)))}")


def stale(base: Path) -> list[Path]:
    """Labs whose owner is gone."""
    found = []
    for directory in record.labs(base):
        known = record.load(directory)
        if known is not None and (known.owner is not None and not known.owner.alive()):
            found.append(directory)
    return found


def clean(base: Path) -> list[str]:
    """Take the labs of dead owners away; their names."""
    removed = []
    for directory in stale(base):
        with contextlib.suppress(AlreadyRunning), record.locked(directory):
            known = record.load(directory)
            if known is not None:
                destroy(directory, known)
                removed.append(directory.name)
    return removed


@contextlib.contextmanager
def temporary(
    directory: Path,
    *,
    profile: str,
    preempt: bool,
    states: bool = False,
    start: bool = True,
    node_command: Sequence[str] | None = None,
    kind: type[nodes.Node] = nodes.Node,
) -> Iterator[Lab]:
    """A lab for the length of a `with`: gone afterwards, also after an exception, SIGTERM, SIGHUP or SIGINT.

    kind: what its nodes run, with `profile` one of its profiles.
    """

    with record.locked(directory):
        clean(directory.parent)
        with termination.as_interrupt():
            lab = create(
                directory,
                profile=profile,
                preempt=preempt,
                owned=True,
                states=states,
                start=start,
                node_command=node_command,
                kind=kind,
            )
            try:
                yield lab
            except BaseException:
                with contextlib.suppress(HacoreError):  # what happened first is what has to be told
                    _end(lab)
                raise
            _end(lab)


def _end(lab: Lab) -> None:
    with termination.ignored():
        try:
            destroy(lab.directory, lab.record)
        finally:
            for node in lab.nodes.values():
                node.reap()
