"""Two real nodes in network namespaces that push to each other; each has files of its own under the same path."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hacore.control.trial_certificates import make_test_certificates
from tests.running_node import HACORE, RunningNode, Segment, table, vip


class PushNode(RunningNode):
    """What it has under `shared` lies in `files`."""

    shared: Path

    @property
    def files(self) -> Path:
        return self.directory / "files"

    def launch(self) -> None:
        script = f'mount --bind {self.files} {self.shared} && exec "$@"'
        with open(self.log, "ab") as log:
            self.process = self.host.start(
                "sh", "-c", script, "sh", *HACORE, "run", "-c", str(self.settings),
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=self.environment(),
            )  # fmt: skip

    def write(self, path: str, content: str | bytes) -> Path:
        place = self.files / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content.encode() if isinstance(content, str) else content)
        return place

    def control_pid(self) -> int:
        """Of the control worker that runs; 0 where none does."""
        worker = self.status()["node"]["workers"].get("control", {})
        return int(worker["pid"]) if worker.get("state") == "running" else 0

    def until_control_runs(self) -> None:
        self.until(self.control_pid)

    def push(self, *arguments: str) -> dict[str, Any]:
        """The outcome of `hacore config push`, whatever it is."""
        done = self.hacore("config", "push", "--json", *arguments, check=False)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert lines, done.stderr
        assert "outcome" in lines[-1], done.stderr
        return dict(lines[-1]["outcome"])


@contextmanager
def push_pair(
    directory: Path, *tables: str, rekey_time: float = 600.0, **vip_settings: Any
) -> Iterator[tuple[PushNode, PushNode]]:
    """fw1, MASTER, and fw2. In `tables`, FILES stands for the path of the files."""
    make_test_certificates(directory / "certificates", ["fw1", "fw2"])
    shared = directory / "shared"
    shared.mkdir()
    with Segment(directory) as segment:
        made = []
        for label, number in (("fw1", 11), ("fw2", 12)):
            node = PushNode(segment.host(label, number), directory / label)
            node.shared = shared
            node.files.mkdir()
            segment.nodes.append(node)
            made.append(node)
        for node, other, number in ((made[0], made[1], 11), (made[1], made[0], 12)):
            node.configure(
                vip(**{"advskew": 20 if number == 11 else 40, "advskew_step": 20} | vip_settings),
                table("peer", name=other.name, control=f"10.1.0.{23 - number}:8117"),
                f'[control]\nlisten = "10.1.0.{number}:8117"',
                *(each.replace("FILES", str(shared)) for each in tables),
                rekey_time=rekey_time,
            )
            (node.state_dir / "tls").mkdir(parents=True)
            for file in ("node.crt", "node.key", "peers.pem"):
                content = (directory / "certificates" / node.name / file).read_bytes()
                (node.state_dir / "tls" / file).write_bytes(content)
        segment.start_in_turn(made[0], made[1])
        for node in made:
            node.until_control_runs()
        yield made[0], made[1]
