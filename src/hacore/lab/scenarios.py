"""The scenarios: what is done to the pair, step by step, and what each step cost.

A scenario is a few phases; each begins with one deed (a fault, or its end) and lasts until the pair has settled. All
figures of a phase come from one recording that runs through the whole scenario.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from hacore.lab import faults, topology
from hacore.lab.nodes import LEASE
from hacore.lab.stage import Stage

_AFTER_LEASE = LEASE + 0.5
_HANG = 3.5
_FLAPS = 5
_FLAP = 0.3


def stop(stage: Stage) -> None:
    """A planned stop: SIGTERM to the supervisor of the MASTER, later it is started again."""
    master = stage.master()
    with stage.phase("stop", must_move=True):
        stage.terminate(master)
        stage.observe(1.0)
    with stage.phase("return"):
        stage.boot(master)


def maintenance(stage: Stage) -> None:
    """`hacore maintenance enter` on the MASTER, later `leave`."""
    master = stage.master()
    with stage.phase("enter", must_move=True):
        master.maintenance(True)
        stage.observe(1.0)
    with stage.phase("leave"):
        master.maintenance(False)
        stage.settle(stage.expected_after_return(master))


def crash(stage: Stage) -> None:
    """SIGKILL to all processes of the MASTER at once; its interfaces stay up. Later it is started again."""
    master = stage.master()
    with stage.phase("crash", must_move=True):
        stage.mark_dead(master, faults.crash(master.processes()))
        stage.observe(_AFTER_LEASE)
    with stage.phase("return"):
        stage.boot(master)


def worker_crash(stage: Stage) -> None:
    """SIGKILL to the election worker of the MASTER alone; its supervisor starts another."""
    master = stage.master()
    with stage.phase("worker-crash", must_move=True):
        stage.struck(faults.crash([master.election_worker()]))
        stage.observe(_AFTER_LEASE)
        stage.settle(stage.expected_after_return(master))


def worker_hang(stage: Stage) -> None:
    """SIGSTOP to the election worker of the MASTER alone; its supervisor has to notice."""
    master = stage.master()
    worker = master.election_worker()
    with stage.phase("worker-hang", must_move=True):
        stage.struck(faults.freeze([worker]))
        stage.observe(_AFTER_LEASE)
        if worker in master.processes():
            faults.thaw([worker])
        stage.settle(stage.expected_after_return(master))


def hang(stage: Stage) -> None:
    """SIGSTOP to all processes of the MASTER, SIGCONT 3.5 s later."""
    master = stage.master()
    frozen = master.processes()
    with stage.phase("hang", must_move=True):
        began = faults.freeze(frozen)
        stage.mark_dead(master, began)
        stage.observe(_HANG)
    with stage.phase("continue"):
        thawed = faults.thaw(frozen)
        stage.struck(thawed)
        stage.mark_alive(master, thawed)
        stage.settle(stage.expected_after_return(master))


def link_down(stage: Stage) -> None:
    """The LAN port of the MASTER goes down, later up; its WAN stays up."""
    master = stage.master()
    port = f"lan-{master.name}"
    with stage.phase("down", must_move=True):
        stage.struck(stage.lab.faults.set_ports([port], "down"))
        stage.observe(1.5)
    with stage.phase("up"):
        stage.struck(stage.lab.faults.set_ports([port], "up"))
        stage.settle(stage.expected_after_return(master))


def power(stage: Stage) -> None:
    """Every port of the MASTER goes down at once and all its processes end. Later ports and node come back."""
    master = stage.master()
    with stage.phase("power", must_move=True):
        stage.mark_dead(master, stage.lab.faults.power_off(master.name, master.processes()))
        faults.forget_connections(master.namespace)
        stage.observe(_AFTER_LEASE)
    with stage.phase("return"):
        topology.remove_virtual_addresses(master.namespace)
        stage.lab.faults.set_ports(stage.ports(master), "up")
        stage.boot(master)


def partition(stage: Stage) -> None:
    """Nothing passes between the nodes on any network, client and server reach both; later it heals."""
    with stage.phase("cut", must_move=True):
        stage.struck(stage.lab.faults.partition())
        stage.observe(1.5)
    with stage.phase("heal"):
        stage.struck(stage.lab.faults.drop_nothing())
        stage.settle(stage.lab.preferred)


def flap(stage: Stage) -> None:
    """The LAN port of the MASTER goes down and up five times, 0.3 s each."""
    master = stage.master()
    port = f"lan-{master.name}"
    with stage.phase("flap", must_move=True):
        for _ in range(_FLAPS):
            stage.lab.faults.set_ports([port], "down")
            stage.wait(_FLAP)
            stage.lab.faults.set_ports([port], "up")
            stage.wait(_FLAP)
        stage.settle(stage.expected_after_return(master))


class Scenario(NamedTuple):
    """A scenario by its name on the command line."""

    name: str
    play: Callable[[Stage], None]

    @property
    def description(self) -> str:
        """What is done, in a line."""
        return (self.play.__doc__ or "").strip()


SCENARIOS = {
    name: Scenario(name, play)
    for name, play in {
        "stop": stop,
        "maintenance": maintenance,
        "crash": crash,
        "worker-crash": worker_crash,
        "worker-hang": worker_hang,
        "hang": hang,
        "link-down": link_down,
        "power": power,
        "partition": partition,
        "flap": flap,
    }.items()
}
