"""What becomes of a run by how its parts end."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from hacore.bench import result, words
from hacore.bench.running import Interrupted, Part, PartsFailed, Running, Told
from hacore.bench.samples import Samples
from hacore.cli.bench_output import shown
from hacore.errors import HacoreError, PlatformError
from hacore.linux import termination


@pytest.fixture
def running() -> Running:
    return Running("sync", [], Samples())


def part(running: Running, name: str, error: BaseException | None = None, *, first: bool = True) -> Part:
    """Takes a sample and then ends with `error`; not `first`: the other way round."""

    def measure(say: Told) -> None:
        say(f"the middle of {name}")
        if error is not None and not first:
            raise error
        running.into.add("time", "s", "less", "hacore", {}, 1.0)
        if error is not None:
            raise error

    return Part(name, measure)


def carried_out(running: Running, parts: list[Part], output: Path) -> Callable[[], result.Result]:
    """The result in `output` of a run of these parts."""
    with shown(running, lambda: running.result(settings={}), str(output), None, False) as tell:
        running.carry_out(parts, tell)
    return lambda: result.load(output)


def test_all_parts(running: Running, tmp_path: Path) -> None:
    found = carried_out(running, [part(running, name) for name in "abc"], tmp_path / "run")()
    assert found.missing == []
    assert len(found.figures[0].samples) == 3
    assert words.title(found) == "hacore bench sync"


def test_two_parts_fail(running: Running, tmp_path: Path) -> None:
    errors = [PlatformError("no room"), HacoreError("no luck")]
    parts = [part(running, "a"), part(running, "b", errors[0]), part(running, "c", errors[1]), part(running, "d")]
    with pytest.raises(
        PartsFailed, match=r"^the result is incomplete: 2 of 4 parts failed: no room, and 1 more"
    ) as told:
        carried_out(running, parts, tmp_path / "run")
    assert told.value.exit_code == PlatformError.exit_code
    found = result.load(tmp_path / "run")
    assert [(each.part, each.why) for each in found.missing] == [("b", "no room"), ("c", "no luck")]
    assert len(found.figures[0].samples) == 4


def test_a_first_part_that_measures_nothing_ends_the_run(running: Running, tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match="no room"):
        carried_out(running, [part(running, "a", PlatformError("no room"), first=False)], tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_fault_is_raised_after_what_was_measured_is_written(running: Running, tmp_path: Path) -> None:
    parts = [part(running, "a"), part(running, "b", ZeroDivisionError("by zero")), part(running, "c")]
    with pytest.raises(ZeroDivisionError):
        carried_out(running, parts, tmp_path / "run")
    found = result.load(tmp_path / "run")
    assert [each.part for each in found.missing] == ["b", "c"]
    assert found.missing[0].why == "the run ended with ZeroDivisionError: by zero at: the middle of b"


def test_a_signal_counts_for_more_than_what_its_end_led_to(running: Running, tmp_path: Path) -> None:
    parts = [part(running, "a"), part(running, "b", KeyboardInterrupt(signal.SIGTERM))]

    def run() -> None:
        with shown(running, lambda: running.result(settings={}), str(tmp_path / "run"), None, False) as tell:
            try:
                running.carry_out(parts, tell)
            finally:
                raise HacoreError("the lab cannot be taken away")

    with pytest.raises(Interrupted, match=r"^SIGTERM: the result is incomplete$") as told:
        run()
    assert told.value.exit_code == 128 + signal.SIGTERM
    assert result.load(tmp_path / "run").missing[0].part == "b"


def test_a_file_that_cannot_be_written_costs_only_itself(
    running: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page"
    made = running.result
    with (
        pytest.raises(HacoreError, match="No space left on device"),
        shown(running, lambda: made(settings={}), "/dev/full", str(page), False) as tell,
    ):
        running.carry_out([part(running, "a")], tell)
    assert "1 s" in page.read_text(encoding="utf-8")
    assert "1 s" in capsys.readouterr().out


def test_many_parts_that_are_missing_are_counted(running: Running, tmp_path: Path) -> None:
    parts = [part(running, f"part {number}") for number in range(30)]
    parts[3] = part(running, "part 3", KeyboardInterrupt())
    with pytest.raises(Interrupted):
        carried_out(running, parts, tmp_path / "run")
    found = result.load(tmp_path / "run")
    assert len(found.missing) == 27
    begun, rest = words.missing(found)
    assert begun == "not measured to the end: part 3 (the run was ended by SIGINT at: the middle of part 3)"
    named = "; ".join(f"part {number}" for number in range(4, 12))
    assert rest == f"not measured to the end: {named}; and 18 more (the run was ended by SIGINT before)"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_interrupt_knows_its_signal(number: signal.Signals) -> None:
    with termination.as_interrupt(), pytest.raises(KeyboardInterrupt) as raised:
        signal.raise_signal(number)
    assert termination.signal_of(raised.value) == number
