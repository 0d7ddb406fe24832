"""Two firewalls, a client in their LAN and an upstream router in their WAN, as in the guide; and the guide itself,
whose blocks are carried out on the firewalls as they are written.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

from tests.docs import markdown, outputs
from tests.docs.markdown import Block, Order
from tests.docs.test_setup import LOOKING, PASTE
from tests.hosts.machine import Machine
from tests.namespaces import Host, Network, Switch, wait_until

GUIDE = markdown.ROOT / "docs/setup.md"
SIDES = ("lan", "wan", "sync")
VIRTUAL = {"192.168.10.1", "2001:db8:10::1", "198.51.100.1", "2001:db8:51::1"}
PATIENCE = 40.0


class Pair:
    """The network of the guide. `machines` are fw1 and fw2, `client` and `upstream` are no more than namespaces."""

    def __init__(self, root: Path, directory: Path) -> None:
        self.network = Network()
        self.directory = directory
        self.machines: dict[str, Machine] = {}
        self._ports: dict[tuple[str, str], str] = {}
        self._boots = 0
        try:
            self.switches: dict[str, Switch] = {side: self.network.switch(side, "mcast_snooping 0") for side in SIDES}
            self.client = self._outsider("client", "lan", "192.168.10.100/24", "2001:db8:10::100/64")
            self.client.ip("route add default via 192.168.10.1")
            self.upstream = self._outsider("upstream", "wan", "198.51.100.254/24", "2001:db8:51::fe/64")
            for name in ("fw1", "fw2"):
                self.machines[name] = Machine(name, root, directory / name)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for machine in self.machines.values():
            machine.close()
        self.network.__exit__()

    @property
    def fw1(self) -> Machine:
        return self.machines["fw1"]

    @property
    def fw2(self) -> Machine:
        return self.machines["fw2"]

    def other(self, machine: Machine) -> Machine:
        return self.fw2 if machine is self.fw1 else self.fw1

    def _outsider(self, label: str, side: str, *addresses: str) -> Host:
        host = self.network.host(label)
        for place in ("all", "default"):
            host.sysctl(f"ipv6/conf/{place}/accept_dad", "0")
        self.network.cable(host, side, self.switches[side])
        for address in addresses:
            host.ip(f"address add {address} dev {side}")
        return host

    def power_on(self, *machines: Machine) -> None:
        """Puts the cables in, and boots all of them side by side."""
        from concurrent.futures import ThreadPoolExecutor

        hosts = []
        for machine in machines:
            self._boots += 1
            host = self.network.host(f"{machine.name}-{self._boots}")
            for place in ("all", "default"):
                host.sysctl(f"ipv6/conf/{place}/accept_dad", "0")
            for side in SIDES:
                self._ports[machine.name, side] = self.network.cable(host, side, self.switches[side])
            hosts.append(host)
        with ThreadPoolExecutor() as threads:
            list(threads.map(lambda machine, host: machine.power_on(host), machines, hosts))
        for outsider in (self.client, self.upstream):
            outsider.ip("neighbour flush all")  # its network cards are others than before, with other addresses

    # What the guide says

    def follow(self, heading: str) -> None:
        """Carries out a section of the guide, and compares what its blocks write with what it says they do.

        Blocks that are `replaced` are done as `REPLACED` says; those that it does not name can be done here.
        """
        parts = list(section(heading))
        for part, following in zip(parts, [*parts[1:], None], strict=True):
            if isinstance(part, Order):
                if part.words[:2] == ("hosts", "holds"):
                    self.until_holds(self.machines[part.words[2]])
            elif part.language == "interfaces":
                machine = self.machines[part.words[1]]
                machine.run(_write("/etc/network/interfaces.d/firewall", part.text))
            elif "replaced" in part.words and (instead := REPLACED.get(part.text.splitlines()[0])):
                instead(self)
            elif part.language == "sh" and len(part.words) > 1:
                said = following.text if isinstance(following, Block) and following.words == ("text",) else "...\n"
                for name in ("fw1", "fw2") if part.words[1] == "both" else (part.words[1],):
                    self._type(self.machines[name], part, said)

    def _type(self, machine: Machine, block: Block, said: str) -> None:
        """Commands that change nothing have some time until they say what the guide says."""
        looking = all(line.startswith(LOOKING) for line in block.text.splitlines())
        deadline = time.monotonic() + (PATIENCE if looking else 0.0)
        while True:
            done = machine.shell(block.text)
            if done.returncode == 0 and outputs.fits(said, done.stdout):
                return
            if time.monotonic() > deadline:
                break
            time.sleep(0.3)
        where = f"line {block.line} of the guide, on {machine.name}: exit code {done.returncode}"
        raise AssertionError(f"{where}\n{block.text}wrote:\n{done.stdout}the guide says:\n{said}{machine.story()}")

    # How they are

    def status(self, machine: Machine) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(machine.run("hacore status --json"))
        return found

    def held(self, machine: Machine) -> set[str]:
        """The virtual addresses that its kernel has."""
        assert machine.host is not None
        return VIRTUAL & set(re.findall(r"inet6? ([0-9a-f.:]+)/", machine.host.ip("address show")))

    def until_holds(self, machine: Machine) -> None:
        """Until this machine, and no other that is on, has every virtual address."""
        others = [each for each in self.machines.values() if each is not machine and each.is_on]

        def right() -> bool:
            return self.held(machine) == VIRTUAL and not any(self.held(each) for each in others)

        self.until(right, f"{machine.name} holds everything")

    def until(self, condition: Callable[[], Any], what: str, timeout: float = PATIENCE) -> Any:
        """The first true result; fails with the story of both."""
        try:
            return wait_until(condition, timeout, 0.2)
        except AssertionError:
            stories = "\n".join(f"{name}:\n{machine.story()}" for name, machine in self.machines.items())
            raise AssertionError(f"not within {timeout:g} s: {what}\n{stories}") from None

    def until_says(self, machine: Machine, command: str, text: str = "") -> None:
        """Until the command succeeds and what it writes has `text` in it."""

        def says() -> bool:
            done = machine.shell(command)
            return done.returncode == 0 and text in done.stdout

        self.until(says, f"{machine.name}: {command}: {text}")

    def client_reaches_upstream(self) -> bool:
        done = subprocess.run(
            ["ip", "netns", "exec", self.client.name, "ping", "-c1", "-W1", "198.51.100.254"],
            capture_output=True, check=False,
        )  # fmt: skip
        return done.returncode == 0


def section(heading: str) -> Iterator[Block | Order]:
    """The blocks and orders of the guide under the heading of this level-2 section."""
    lines = GUIDE.read_text(encoding="utf-8").splitlines()
    begin = lines.index(f"## {heading}")
    fenced = False
    end = len(lines)
    for number in range(begin + 1, len(lines)):
        fenced ^= lines[number].startswith("```")
        if lines[number].startswith("## ") and not fenced:
            end = number
            break
    return (part for part in markdown.parts(GUIDE) if begin < part.line <= end)


def _write(path: str, text: str) -> str:
    return f"mkdir -p {Path(path).parent}\ncat >{path} <<'END_OF_FILE'\n{text}END_OF_FILE\n"


def _installed_already(pair: Pair) -> None:
    """The root was made with the guide's lines (`tests.hosts.debian`), once for all machines."""
    for machine in pair.machines.values():
        machine.run("command -v hacore nft")


def _bring_password(pair: Pair) -> None:
    """The line that the guide has its reader type, on the command's standard input."""
    password = pair.fw1.run("cat /etc/hacore/carp.key")
    pair.fw2.run(f"{PASTE} <<'END'\n{password}END")


def _bring_token(pair: Pair) -> None:
    """Instead of the reader's hands: the token goes from one machine to the other."""
    pair.until_says(pair.fw2, "hacore pair list")  # its control worker comes up a moment after the reload
    token = pair.fw1.run("hacore pair invite 2>/dev/null").strip()
    pair.fw2.run(f"hacore pair join {token} --via 10.9.0.1")


#: How each `replaced` block is done here, by its first line.
REPLACED: dict[str, Callable[[Pair], None]] = {
    "apt-get update": _installed_already,
    "apt-get install --yes git make": _installed_already,
    "cp dist/hacore-*.whl /root/": _installed_already,
    "mv /home/admin/hacore-*.whl /root/": _installed_already,
    "python3 -m venv /opt/hacore": _installed_already,
    PASTE: _bring_password,
    "hacore pair join hacore-... --via 10.9.0.1": _bring_token,
}
