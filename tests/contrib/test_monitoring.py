"""contrib/: the alert rules do what they say; they and the dashboard ask for no figure that no node gives."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from hacore.web.metrics import Peer, scrape
from tests.web.full_snapshot import full_snapshot

ROOT = Path(__file__).parents[2]
RULES = ROOT / "contrib/prometheus/hacore.rules.yml"
DASHBOARD = ROOT / "contrib/grafana/hacore.json"
RULE_TESTS = Path(__file__).with_name("hacore.rules.test.yml")
NAME = re.compile(r"\bhacore_[a-z0-9_]+")
LABEL = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"")


def promtool(*arguments: str | Path, stdin: bytes = b"", cwd: Path | None = None) -> str:
    assert shutil.which("promtool"), "promtool is missing: apt-get install prometheus"
    done = subprocess.run(["promtool", *map(str, arguments)], input=stdin, capture_output=True, cwd=cwd, check=False)
    text = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, text
    return text


def samples() -> dict[str, set[str]]:
    """Every series that a node with everything tells of, with its labels."""
    found: dict[str, set[str]] = {}
    text = scrape(full_snapshot(), [Peer("fw2", fresh=True, at=1.0)]).body.decode()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def test_what_is_scraped_is_as_prometheus_wants_it() -> None:
    promtool("check", "metrics", stdin=scrape(full_snapshot(), [Peer("fw2", fresh=True, at=1.0)]).body)


def test_the_rules_fire_when_they_are_due_and_only_then(tmp_path: Path) -> None:
    shutil.copy(RULES, tmp_path)
    shutil.copy(RULE_TESTS, tmp_path)
    promtool("check", "rules", RULES.name, cwd=tmp_path)
    promtool("test", "rules", RULE_TESTS.name, cwd=tmp_path)


def test_every_alert_is_tested_both_ways() -> None:
    alerts = re.findall(r"- alert: (\w+)", RULES.read_text(encoding="utf-8"))
    tested = re.findall(r"- name: (.*)", RULE_TESTS.read_text(encoding="utf-8"))
    assert sorted(tested) == sorted([*alerts, *(f"{alert}, quiet" for alert in alerts)])


def expressions(part: Any) -> Iterator[str]:
    """Of the dashboard, wherever they stand."""
    if isinstance(part, dict):
        for key, value in part.items():
            if key in ("expr", "definition") and isinstance(value, str):
                yield value
            else:
                yield from expressions(value)
    elif isinstance(part, list):
        for value in part:
            yield from expressions(value)


def test_the_rules_and_the_dashboard_ask_only_for_what_there_is() -> None:
    known = samples()
    rules = [line for line in RULES.read_text(encoding="utf-8").splitlines() if "expr:" in line]
    asked = [*rules, *expressions(json.loads(DASHBOARD.read_text(encoding="utf-8")))]
    assert len(asked) > 40
    for expression in asked:
        for name in NAME.findall(expression.replace("hacore.*", "")):
            assert name in known, expression
        for name, braces in re.findall(r"\b(hacore_\w+)\{([^}]*)\}", expression):
            assert set(LABEL.findall(braces)) <= known[name] | {"job", "instance"}, expression


def test_the_dashboard_shows_everything_that_matters() -> None:
    shown = " ".join(expressions(json.loads(DASHBOARD.read_text(encoding="utf-8"))))
    for name in (
        "vip_state", "demotion_reason", "vip_failovers_total", "vip_adverts_dropped_total", "states_rows",
        "states_lag_seconds", "pushes_total", "service_state", "check_up", "election_up",
    ):  # fmt: skip
        assert f"hacore_{name}" in shown


def test_every_expression_of_the_dashboard_is_one(tmp_path: Path) -> None:
    rules = []
    for number, expression in enumerate(expressions(json.loads(DASHBOARD.read_text(encoding="utf-8")))):
        if not expression.startswith("label_values"):
            plain = expression.replace("$__rate_interval", "1m").replace("$__interval", "1m")
            rules.append({"record": f"dashboard:{number}", "expr": plain})
    file = tmp_path / "dashboard.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool("check", "rules", file)


def test_panels_neither_overlap_nor_share_a_number() -> None:
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    assert len({one["id"] for one in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for one in panels:
        at = one["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, one["title"]
        taken |= cells
