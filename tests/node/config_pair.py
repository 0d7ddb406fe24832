"""Two nodes' configurations on one machine, each with a tree of files of its own, and a push between them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from hacore import __version__
from hacore.configsync.plan import Step
from hacore.configsync.report import Outcome
from hacore.node.config_lock import Busy
from hacore.node.config_node import ConfigNode, PushRequest
from hacore.node.config_sending import Sending
from hacore.node.config_surroundings import Restarted, Standing, Surroundings, not_known
from hacore.node.settings import Settings, load
from tests.namespaces import wait_until

VIP = """
[[vip]]
name = "lan"
interface = "lan0"
vhid = 1
advskew = {advskew}
password = "secret"
addresses = ["192.0.2.1/24"]
"""


class Side:
    """One node: `tree` stands for /, `settings_file` is its hacore.toml."""

    def __init__(
        self, directory: Path, name: str, settings: str, step: Callable[[Step], None] = lambda _: None
    ) -> None:
        self.name, self.directory = name, directory
        self.tree = directory / "tree"
        self.tree.mkdir(parents=True, exist_ok=True)
        self.settings_file = directory / "hacore.toml"
        if settings:
            self.write_settings(settings)
        self.reloads: list[Settings] = []
        self.restarted: list[list[str]] = []
        self.stopped: list[list[str]] = []
        self.running: dict[str, float | None] = {"one": None}  # services, and when they began
        self.unknown = False  # nobody can ask them
        self.failing_services: dict[str, str] = {}
        self.states: dict[str, str] = {}
        self.history: list[str] = []
        self.refuses_reload = False
        self._step = step
        self.node = self.start()

    def write_settings(self, text: str) -> None:
        self.settings_file.write_text(
            f'[node]\nname = "{self.name}"\nruntime_dir = "{self.directory}/run"\n'
            f'state_dir = "{self.directory}/state"\n{text}'
        )

    def start(self) -> ConfigNode:
        surroundings = Surroundings(
            settings=self.settings,
            reload=self._reload,
            look=self._look,
            restart=self._restart,
            stop=self._stop,
            states=lambda: self.states,
            record=self.history.append,
        )
        return wait_until(lambda: self._open(surroundings))  # type: ignore[no-any-return]

    def _open(self, surroundings: Surroundings) -> ConfigNode | None:
        """None while a process that a killed worker had just forked has not let go of the lock yet."""
        try:
            return ConfigNode(self.directory / "state", surroundings, root=str(self.tree), step_written=self._step)
        except Busy:
            return None

    def restart(self) -> None:
        self.node.close()
        self.node = self.start()

    def settings(self) -> Settings:
        return load(self.settings_file)

    def _reload(self) -> None:
        loaded = self.settings()
        if self.refuses_reload:
            self.refuses_reload = False
            from hacore.errors import PlatformError

            raise PlatformError("no")
        self.reloads.append(loaded)

    def _look(self, names: Sequence[str]) -> list[Standing]:
        if self.unknown:
            return not_known(names)
        return [Standing(name, name in self.running, self.running.get(name)) for name in names]

    def _stop(self, names: Sequence[str]) -> list[Restarted]:
        self.stopped.append(list(names))
        for name in names:
            del self.running[name]
        return [Restarted(name, True, "stopped") for name in names]

    def _restart(self, names: Sequence[str]) -> list[Restarted]:
        self.restarted.append(list(names))
        bad = self.failing_services
        self.running |= {name: time.monotonic() for name in names if name not in bad}
        return [Restarted(name, name not in bad, bad.get(name, "restarted")) for name in names]

    def write(self, path: str, content: str | bytes, mode: int = 0o644) -> Path:
        place = Path(f"{self.tree}{path}")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content.encode() if isinstance(content, str) else content)
        place.chmod(mode)
        return place

    def read(self, path: str) -> str:
        return Path(f"{self.tree}{path}").read_text()

    def picture(self) -> dict[str, Any]:
        """Everything that stands in the tree."""
        found: dict[str, Any] = {}
        for directory, folders, files in os.walk(self.tree):
            for name in (*folders, *files):
                place = Path(directory) / name
                status = place.lstat()
                content = os.readlink(place) if place.is_symlink() else place.read_bytes() if place.is_file() else None
                found[str(place.relative_to(self.tree))] = (status.st_mode, status.st_uid, status.st_gid, content)
        return found


def two_sides(directory: Path, sections: str) -> Iterator[tuple[Side, Side]]:
    """fw1, which is preferred, and fw2, until their user is done."""
    sides = (
        Side(directory / "a", "fw1", sections + VIP.format(advskew=0)),
        Side(directory / "b", "fw2", sections + VIP.format(advskew=100)),
    )
    yield sides
    for side in sides:
        side.node.close()


@contextmanager
def old_and_new_rules(directory: Path, section: str) -> Iterator[tuple[Side, Side]]:
    """fw1 with new rules, fw2 with old ones, which are applied too; in `section`, TREE stands for a node's tree."""
    made = [
        Side(directory / letter, name, section.replace("TREE", f"{directory}/{letter}/tree") + VIP.format(advskew=0))
        for letter, name in (("a", "fw1"), ("b", "fw2"))
    ]
    made[0].write("/etc/rules.conf", "new\n")
    made[1].write("/etc/rules.conf", "old\n")
    (made[1].directory / "applied").write_text("old\n")
    yield made[0], made[1]
    for side in made:
        side.node.close()


def sending(sender: Side, receiver: Side, names: Sequence[str] = ()) -> Sending:
    """What differs, as the sender sees it."""
    made = Sending(sender.node, names)
    made.compare(receiver.node.overview(made.names))
    return made


def request(sender: Side, receiver: Side, names: Sequence[str] = (), **options: Any) -> PushRequest:
    """What the sender would ask for."""
    version = options.pop("version", __version__)
    return msgspec.structs.replace(sending(sender, receiver, names).request(**options), version=version)


def push(sender: Side, receiver: Side, names: Sequence[str] = (), **options: Any) -> Outcome:
    """All of a push, as the control workers do it."""
    version = options.pop("version", __version__)
    prepared = sending(sender, receiver, names)
    asked = msgspec.structs.replace(prepared.request(**options), version=version)
    opened = receiver.node.open(asked)
    for data in prepared.stream(opened.lacking):
        for start in range(0, len(data), 7919):
            receiver.node.take(opened.transaction, data[start : start + 7919])
    return receiver.node.commit(opened.transaction, lambda _progress: None)
