"""The guide docs/setup.md, carried out: its blocks run in namespaces that stand for its machines, in its order, and
they write what it says they write.

A block ```sh NODE``` runs on that machine (`both`: on fw1 and on fw2); a ```text block behind it is its output. What
cannot be done in a namespace, or would reach beyond it, is marked `replaced` in the guide and done in another way here;
REPLACED says how. What the reader does with their hands is an order in a comment, `<!-- test: ... -->`.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.docs import markdown, outputs
from tests.docs.machines import Machine, Machines
from tests.docs.markdown import Block, Order
from tests.namespaces import Switch, require, wait_until

GUIDE = markdown.ROOT / "docs/setup.md"
VIRTUAL = {"192.168.10.1", "2001:db8:10::1", "198.51.100.1", "2001:db8:51::1"}
#: Commands that change nothing: what they say is waited for.
LOOKING = (
    "hacore status",
    "hacore pair invite",
    "hacore pair list",
    "hacore states show",
    "hacore events",
    "hacore check",
    "hacore doctor",
    "ip neighbour",
    "ip -brief",
    "ping -c",
)
PATIENCE = 40.0
ADD_USER = "hacore web user add anna --role administrator"
#: What waits for the password on fw2.
PASTE = "(umask 077; cat >/etc/hacore/carp.key)"
#: The interfaces of a firewall.
SIDES = ("lan", "wan", "sync")
#: Between two pings of the window on the client.
PING_INTERVAL = 0.1


class Guide:
    """The network of the guide, and where its reader stands."""

    def __init__(self, network: Machines, directory: Path) -> None:
        self.network = network
        self.directory = directory
        self.switches = {name: network.switch(name, "mcast_snooping 0") for name in SIDES}
        self.machines = {name: self._machine(name) for name in ("fw1", "fw2", "client", "upstream")}
        self.ports: dict[tuple[str, str], str] = {}
        self.interfaces: dict[str, str] = {}
        for name in ("fw1", "fw2"):
            for side in SIDES:
                self._plug_in(name, side)
        self._plug_in("client", "lan")
        self._plug_in("upstream", "wan")
        self._address("client", "lan", "192.168.10.100/24", "2001:db8:10::100/64")
        self._address("upstream", "wan", "198.51.100.254/24", "2001:db8:51::fe/64")
        self.pings = directory / "pings"
        self.missed = 0

    def _machine(self, name: str) -> Machine:
        machine = self.network.machine(name, self.directory / name)
        # Addresses are used at once: nobody else in this network has them.
        for place in ("all", "default"):
            machine.sysctl(f"ipv6/conf/{place}/accept_dad", "0")
        return machine

    def _plug_in(self, name: str, side: str) -> None:
        self.ports[name, side] = self.network.cable(self.machines[name], side, self.switches[side])

    def _address(self, name: str, interface: str, *addresses: str) -> None:
        for address in addresses:
            self.machines[name].ip(f"address replace {address} dev {interface}")

    def switch_of(self, name: str, side: str) -> tuple[Switch, str]:
        return self.switches[side], self.ports[name, side]

    # What the guide has its reader do

    def configure_interfaces(self, name: str, text: str) -> None:
        """What ifup does with /etc/network/interfaces."""
        self.interfaces[name] = text
        interface = ""
        for words in (line.split() for line in text.splitlines()):
            if words[0] == "iface":
                interface = words[1]
            elif words[0] == "address":
                self._address(name, interface, words[1])
            elif words[0] == "gateway":
                family = "-6" if ":" in words[1] else "-4"
                self.machines[name].run("ip", family, "route", "replace", "default", "via", words[1])

    def run(self, block: Block, expected: Block | None) -> None:
        where, marks = block.words[1], block.words[2:]
        names = ("fw1", "fw2") if where == "both" else (where,)
        if "replaced" in marks:
            REPLACED[block.text.splitlines()[0]](self)
            return
        for name in names:
            if "window" in marks:
                self.machines[name].background(block.text.strip(), self.pings)
            else:
                self._type(name, block, expected)

    def _type(self, name: str, block: Block, expected: Block | None) -> None:
        looking = all(line.startswith(LOOKING) for line in block.text.splitlines())
        deadline = time.monotonic() + (PATIENCE if looking else 0)
        while True:
            done = self.machines[name].shell(block.text)
            right = done.returncode == 0 and (expected is None or outputs.fits(expected.text, done.stdout))
            if right:
                return
            if time.monotonic() > deadline:
                break
            time.sleep(0.3)
        says = f"the guide says:\n{expected.text}" if expected else ""
        where = f"line {block.line}, on {name}: exit code {done.returncode}"
        pytest.fail(f"{where}\n{block.text}wrote:\n{done.stdout}{says}{self.story()}")

    def story(self) -> str:
        """What happened on both nodes, for the message of a failure."""
        told = (f"{name}:\n{self.machines[name].shell('hacore events --limit 30').stdout}" for name in ("fw1", "fw2"))
        return "\n".join(told)

    # What the reader does with their hands

    def obey(self, order: Order) -> None:
        verb, *arguments = order.words
        getattr(self, f"do_{verb.replace('-', '_')}")(*arguments)

    def do_unplug(self, name: str, side: str) -> None:
        switch, port = self.switch_of(name, side)
        switch.ip(f"link set {port} down")

    def do_plug(self, name: str, side: str) -> None:
        switch, port = self.switch_of(name, side)
        switch.ip(f"link set {port} up")

    def do_power_off(self, name: str) -> None:
        self.machines[name].kill_everything()
        for side in SIDES:
            self.do_unplug(name, side)

    def do_power_on(self, name: str) -> None:
        """The machine comes up: no device, rule or setting is left of before, and its services start."""
        machine = self.machines[name]
        machine.run("nft", "flush", "ruleset")
        for line in machine.run("ip", "-brief", "link", "show", "type", "macvlan").splitlines():
            machine.ip(f"link delete {line.split('@')[0]}")
        for side in SIDES:
            self.do_plug(name, side)
        self.configure_interfaces(name, self.interfaces[name])
        for command in ("enable --now nftables", "start hacore"):
            done = machine.shell(f"systemctl {command}")
            assert done.returncode == 0, done.stdout

    def do_holds(self, name: str) -> None:
        """Waits until this machine, and no other, has every virtual address."""
        other = "fw2" if name == "fw1" else "fw1"
        wait_until(lambda: self.held(name) == VIRTUAL and not self.held(other), timeout=PATIENCE, pause=0.2)

    def held(self, name: str) -> set[str]:
        return VIRTUAL & set(re.findall(r"inet6? ([0-9a-f.:]+)/", self.machines[name].ip("address show")))

    def do_pinged(self, test: str) -> None:
        """The client's pings are answered again; where the guide says so, none was missed."""
        before = self._answered()
        wait_until(lambda: self._answered() > before + 5, timeout=PATIENCE, pause=PING_INTERVAL)
        missed = len(re.findall(r"no answer yet", self.pings.read_text(encoding="ascii")))
        lost, self.missed = missed - self.missed, missed
        if test in ("maintenance", "return", "stop", "start"):
            assert lost == 0, f"{test}: the client missed {lost} pings"

    def _answered(self) -> int:
        return self.pings.read_text(encoding="ascii").count("bytes from")


def _bring_password(guide: Guide) -> None:
    """The line that the guide has its reader type, on the command's standard input."""
    password = guide.machines["fw1"].shell("cat /etc/hacore/carp.key").stdout
    done = guide.machines["fw2"].shell(f"{PASTE} <<'END'\n{password}END\nstat --format=%a /etc/hacore/carp.key")
    assert done.stdout == "600\n", done.stdout


def _bring_token(guide: Guide) -> None:
    """Instead of the reader's hands: the token goes from one machine to the other."""
    invited = guide.machines["fw1"].shell("hacore pair invite 2>/dev/null")
    joined = guide.machines["fw2"].shell(f"hacore pair join {invited.stdout.strip()} --via 10.9.0.1")
    assert joined.stdout.startswith("fw2 and fw1 trust each other."), joined.stdout


def _add_user(guide: Guide) -> None:
    """The password comes on standard input: there is no terminal."""
    for name in ("fw1", "fw2"):
        done = guide.machines[name].shell(f"{ADD_USER} <<<'as long as a sentence'")
        assert done.returncode == 0, done.stdout


def _installed_already(guide: Guide) -> None:
    """Instead of the installation: the package under test is in PATH. (Wheels are tested by `make wheel`.)"""
    assert guide.machines["fw1"].shell("command -v hacore nft").returncode == 0


#: How each `replaced` block is done here, by its first line; each function says why.
REPLACED: dict[str, Callable[[Guide], None]] = {
    "apt-get update": _installed_already,
    "apt-get install --yes git make": _installed_already,
    "cp dist/hacore-*.whl /root/": _installed_already,
    "mv /home/admin/hacore-*.whl /root/": _installed_already,
    "python3 -m venv /opt/hacore": _installed_already,
    # The interfaces are up already: no ifupdown runs in the namespaces.
    "ifup lan wan sync": lambda guide: None,
    PASTE: _bring_password,
    "hacore pair join hacore-... --via 10.9.0.1": _bring_token,
    ADD_USER: _add_user,
    # The kernel of the namespaces is that of the machine the test runs on, which must stay on.
    "echo o >/proc/sysrq-trigger": lambda guide: guide.do_power_off("fw1"),
}


@pytest.fixture
def guide(tmp_path: Path) -> Iterator[Guide]:
    require("ip", "nft", "ping", "sysctl", "setsid")
    with Machines() as network:
        yield Guide(network, tmp_path)


def _steps() -> Iterator[tuple[Block | Order, Block | None]]:
    """Each block for a machine with its output, and each order; what needs a whole machine is left to tests/hosts."""
    found = [part for part in markdown.parts(GUIDE) if "hosts" not in part.words]
    for index, part in enumerate(found):
        following = found[index + 1] if index + 1 < len(found) else None
        output = following if isinstance(following, Block) and following.words == ("text",) else None
        if isinstance(part, Order) or (len(part.words) > 1):
            yield part, output


def test_the_guide_does_what_it_says(guide: Guide) -> None:
    for step, output in _steps():
        if isinstance(step, Order):
            guide.obey(step)
        elif step.language == "interfaces":
            guide.configure_interfaces(step.words[1], step.text)
        else:
            guide.run(step, output)


def test_every_replaced_block_is_known() -> None:
    marked = {step.text.splitlines()[0] for step, _ in _steps() if isinstance(step, Block) and "replaced" in step.words}
    assert marked == set(REPLACED)


def test_the_settings_differ_in_name_and_advskew_only() -> None:
    texts = [
        step.text for step, _ in _steps() if isinstance(step, Block) and "cat >/etc/hacore/hacore.toml" in step.text
    ]
    assert len(texts) == 2
    one, other = (text.splitlines() for text in texts)
    different = {line.split(" = ")[0] for line in set(one) ^ set(other)}
    assert different == {"name", "advskew"}


def test_commands_of_the_stand_in_are_those_of_the_guide() -> None:
    """The stand-in for systemctl knows no more than the guide uses, so that none is tested that nobody reads."""
    used = set(re.findall(r"^systemctl (.*)$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE))
    assert used >= {"enable --now hacore", "stop hacore", "start hacore", "enable --now nftables", "daemon-reload"}


def test_files_of_a_machine_are_its_own(tmp_path: Path) -> None:
    """What a machine writes under /etc stays its own."""
    with Machines() as network:
        machine = network.machine("fw", tmp_path / "fw")
        assert machine.shell("mkdir /etc/hacore && touch /etc/hacore/mine").returncode == 0
        assert (tmp_path / "fw/etc/hacore/mine").exists()
        assert subprocess.run(["test", "-e", "/etc/hacore/mine"], check=False).returncode != 0
