"""What `bench compare` says of two runs."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from hacore.bench import compare, result
from hacore.cli.group import main
from tests.bench.made_up import MACHINE, figure
from tests.bench.made_up import result as made_up

BEFORE = [0.020, 0.021, 0.022, 0.023, 0.024]


def verdict(before: list[float], after: list[float], bound: float = 0.1, better: str = "less") -> str:
    old, new = (made_up(figure(samples, better=better)) for samples in (before, after))
    (change,) = compare.compare(old, new, bound)
    return change.verdict


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (BEFORE, "same"),
        ([0.0205, 0.0221, 0.0219, 0.0233, 0.0228], "same"),
        ([2 * value for value in BEFORE], "regression"),
        ([value / 2 for value in BEFORE], "better"),
        ([0.0241, 0.0242, 0.0241, 0.0242, 0.0241], "worse"),
        ([0.0, 0.0, 0.0, 0.0, 0.0], "better"),
    ],
)
def test_a_verdict_on_times(after: list[float], expected: str) -> None:
    assert verdict(BEFORE, after) == expected


def test_more_is_better_where_the_figure_says_so() -> None:
    assert verdict([100.0] * 5, [50.0] * 5, better="more") == "regression"
    assert verdict([100.0] * 5, [95.0] * 5, better="more") == "worse"
    assert verdict([50.0] * 5, [100.0] * 5, better="more") == "better"


def test_from_nothing_to_something_is_a_regression() -> None:
    assert verdict([0.0] * 5, [3.0] * 5) == "regression"
    assert verdict([0.0] * 5, [0.0] * 5) == "same"


@pytest.mark.parametrize("count", [1, 2, 3])
def test_of_few_samples_nothing_is_said(count: int, tmp_path: Path) -> None:
    assert verdict([1.0, 1.1, 1.2][:count], [2.0, 2.2, 2.4]) == "too few samples"
    assert verdict(BEFORE, [2.0, 2.2, 2.4][:count]) == "too few samples"
    old, new = (made_up(figure([value] * count)) for value in (1.0, 2.0))
    code, text = run(tmp_path, old, new)
    assert code == 0
    assert "fewer than 4 samples, of which nothing can be said: 1" in text


def test_four_samples_that_are_apart_say_something() -> None:
    assert verdict([1.0, 1.1, 1.2, 1.3], [2.0, 2.2, 2.4, 2.1]) == "regression"
    assert verdict([1.0, 1.1, 3.0, 1.2], [2.0, 2.2, 2.4, 2.1]) == "same"


def test_of_many_figures_one_may_differ_by_chance() -> None:
    def run_of(samples: list[float]) -> result.Result:
        same = [figure([5.0, 5.1, 4.9, 5.2, 4.8], parameters={"number": number}) for number in range(40)]
        return made_up(figure(samples), *same)

    changes = compare.compare(run_of(BEFORE), run_of([1.2 * value for value in BEFORE]), 0.1)
    assert {change.verdict for change in changes} == {"same"}
    every = [figure(BEFORE, parameters={"number": number}) for number in range(40)]
    slower = [figure([1.3 * value for value in BEFORE], parameters={"number": number}) for number in range(40)]
    assert len(compare.regressions(compare.compare(made_up(*every), made_up(*slower), 0.1))) == 40


def beside(own: float, base: float) -> result.Result:
    """hacore beside a baseline, both so many times as slow."""
    slow = [figure([base * value for value in BEFORE], subject=name) for name in ("ucarp", "bare injector")]
    return made_up(figure([own * value for value in BEFORE]), *slow)


def test_a_slower_machine_is_no_regression_but_drift(tmp_path: Path) -> None:
    old, new = beside(1, 1), beside(1.5, 1.5)
    own, *others = compare.compare(old, new, 0.1)
    assert (own.verdict, own.beside) == ("same", "bare injector")
    assert own.ratio == pytest.approx(1.0)
    assert {change.verdict for change in others} == {"drift"}
    assert run(tmp_path, old, new)[0] == 0


def test_what_only_hacore_lost_is_a_regression_also_on_a_faster_machine(tmp_path: Path) -> None:
    own, *_ = compare.compare(beside(1, 1), beside(1, 0.5), 0.1)
    assert own.verdict == "regression"
    assert own.ratio == pytest.approx(2.0)
    assert run(tmp_path, beside(1, 1), beside(1, 0.5))[0] == 1


def test_a_baseline_never_regresses(tmp_path: Path) -> None:
    old, new = (made_up(figure(BEFORE), figure([times * one for one in BEFORE], subject="ucarp")) for times in (1, 9))
    assert run(tmp_path, made_up(*old.figures[1:]), made_up(*new.figures[1:]))[0] == 0


def test_a_figure_of_its_own_that_is_gone_is_a_regression(tmp_path: Path) -> None:
    old, new = made_up(figure(BEFORE), figure(BEFORE, name="outage")), made_up(figure(BEFORE))
    code, text = run(tmp_path, old, new)
    assert code == 1
    assert "vanished" in text


def test_one_outlier_is_noise() -> None:
    many = [1.0 + 0.01 * (number % 7) for number in range(30)]
    assert verdict(many, [*many[:-1], 50.0]) == "same"


def test_a_small_shift_of_many_samples_is_beyond_the_noise() -> None:
    random = np.random.default_rng(2)
    before, after = random.normal(1.0, 0.02, 60), random.normal(1.05, 0.02, 60)
    assert verdict(list(before), list(after), bound=0.1) == "worse"
    assert verdict(list(before), list(after), bound=0.02) == "regression"


def test_the_chance_is_that_of_all_orders() -> None:
    """Against the definition: how many of all ways to deal the samples out differ as much."""
    one, two = [3.0, 1.0, 4.0, 1.5], [5.0, 9.0, 2.6]
    pooled = sorted([*one, *two])
    middle = len(one) * (len(pooled) + 1) / 2
    distance = abs(sum(pooled.index(value) + 1 for value in one) - middle)
    ways = list(itertools.combinations(range(1, len(pooled) + 1), len(one)))
    expected = sum(abs(sum(way) - middle) >= distance for way in ways) / len(ways)
    assert compare.rank_sum(one, two) == pytest.approx(expected)


def test_the_approximation_meets_the_exact_count() -> None:
    one, two = [1.0, 2.0, 3.0, 6.0, 7.0, 8.5], [4.0, 5.0, 8.0, 9.0, 10.0, 11.0]
    ranks = list(itertools.combinations(range(1, 13), 6))
    distance = abs(sum(1 + sorted([*one, *two]).index(value) for value in one) - 39)
    exact = sum(abs(sum(way) - 39) >= distance for way in ranks) / len(ranks)
    assert compare.rank_sum(one, two) == pytest.approx(exact, abs=0.02)


def test_samples_that_are_all_equal_have_no_distance() -> None:
    assert compare.rank_sum([1.0] * 8, [1.0] * 8) == 1.0


def test_the_interval_holds_the_ratio() -> None:
    found = compare.interval(BEFORE, [2 * value for value in BEFORE])
    assert found is not None
    assert found[0] <= 2 <= found[1]
    assert found[1] / found[0] < 1.5
    assert compare.interval([1.0], BEFORE) is None
    assert compare.interval([0.0, 1.0], BEFORE) is None


def test_what_is_in_one_run_only() -> None:
    old = made_up(figure([1.0], parameters={"states": 1000}), figure([1.0], subject="ucarp"))
    new = made_up(figure([1.0], parameters={"states": 2000}), figure([1.0], subject="ucarp"))
    verdicts = [change.verdict for change in compare.compare(old, new, 0.1)]
    assert verdicts == ["vanished", "same", "only after"]
    verdicts = [change.verdict for change in compare.compare(made_up(old.figures[1]), made_up(figure([1.0])), 0.1)]
    assert verdicts == ["only before", "only after"]


def run(tmp_path: Path, before: result.Result, after: result.Result, *options: str) -> tuple[int, str]:
    for name, made in (("a.json", before), ("b.json", after)):
        (tmp_path / name).write_bytes(result.encode(made))
    done = CliRunner().invoke(
        main, ["bench", "compare", str(tmp_path / "a.json"), str(tmp_path / "b.json"), *options], env={"COLUMNS": "200"}
    )
    return done.exit_code, done.output


def test_the_command_ends_with_1_on_a_regression(tmp_path: Path) -> None:
    old, new = made_up(figure(BEFORE)), made_up(figure([1.3 * value for value in BEFORE]))
    code, text = run(tmp_path, old, new)
    assert code == 1
    assert "1 regression past 10 %" in text
    assert "1.30x" in text
    assert run(tmp_path, old, new, "--bound", "40")[0] == 0
    assert run(tmp_path, new, old)[0] == 0


def test_the_command_says_that_the_runs_are_of_two_machines(tmp_path: Path) -> None:
    other = result.Machine(**{field: getattr(MACHINE, field) for field in MACHINE.__struct_fields__} | {"cores": 64})
    code, text = run(tmp_path, made_up(figure(BEFORE)), made_up(figure(BEFORE), machine=other))
    assert code == 0
    assert "cores: 2 before, 64 after" in text


def test_results_of_two_commands_are_not_compared(tmp_path: Path) -> None:
    code, text = run(tmp_path, made_up(figure(BEFORE)), made_up(figure(BEFORE), command="sync"))
    assert code == 65
    assert "bench failover" in text
    assert "bench sync" in text


@pytest.mark.parametrize("content", [b"", b"{}", b"[1, 2]", b'{"format": 1, "command": 5}'])
def test_a_file_that_is_no_result(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.json").write_bytes(content)
    for command in (
        ["compare", str(tmp_path / "bad.json"), str(tmp_path / "bad.json")],
        ["report", str(tmp_path / "bad.json")],
    ):
        done = CliRunner().invoke(main, ["bench", *command])
        assert done.exit_code == 65
        assert "bad.json" in done.output


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    nowhere = str(tmp_path / "nowhere.json")
    for arguments in (["compare", nowhere, nowhere], ["report", nowhere]):
        done = CliRunner().invoke(main, ["bench", *arguments])
        assert done.exit_code == 66
        assert "nowhere.json" in done.output


def test_json_holds_every_figure(tmp_path: Path) -> None:
    code, text = run(tmp_path, made_up(figure(BEFORE)), made_up(figure(BEFORE)), "--json")
    assert code == 0
    assert '"verdict": "same"' in text
