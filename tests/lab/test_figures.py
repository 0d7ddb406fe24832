"""Figures from literal times."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hacore.lab import capture, figures
from hacore.lab.figures import ProbeFigures
from hacore.lab.observers import AddressChange


def client(requests: list[tuple[float, int]], replies: list[tuple[float, int]]) -> np.ndarray:
    rows = np.zeros(len(requests) + len(replies), dtype=capture.PACKETS)
    for row, (time, number) in zip(rows, requests + replies, strict=True):
        row["time"], row["number"] = time, number
    rows["outgoing"][: len(requests)] = True
    return rows


def steady(count: int, without: tuple[int, ...] = ()) -> np.ndarray:
    return client(
        [(number / 1000, number) for number in range(count)],
        [(number / 1000 + 0.0002, number) for number in range(count) if number not in without],
    )


def test_a_steady_probe_has_no_gap() -> None:
    found = figures.probe_figures(steady(100), 0.010, 0.090)
    assert (found.sent, found.lost, found.doubled, found.reordered) == (80, 0, 0, 0)
    assert found.gap == pytest.approx(0.001)
    assert found.pace == pytest.approx(0.001)


def test_lost_replies_are_counted_and_make_the_gap() -> None:
    found = figures.probe_figures(steady(100, without=tuple(range(40, 60))), 0.010, 0.090)
    assert found.lost == 20
    assert found.gap == pytest.approx(0.021)


def test_a_gap_that_begins_before_the_window_counts_whole() -> None:
    found = figures.probe_figures(steady(100, without=tuple(range(5, 30))), 0.020, 0.090)
    assert found.gap == pytest.approx(0.026)
    assert found.lost == 10


def test_a_gap_that_is_still_open_at_the_end_counts_until_there() -> None:
    found = figures.probe_figures(steady(100, without=tuple(range(50, 100))), 0.010, 0.090)
    assert found.gap == pytest.approx(0.090 - 0.0492)


def test_silence_is_one_gap() -> None:
    assert figures.probe_figures(client([], []), 1.0, 3.0) == ProbeFigures(0, 0, 0, 0, 2.0, 2.0, 0.0)


def test_a_reply_after_the_window_is_not_lost() -> None:
    found = figures.probe_figures(client([(0.5, 7)], [(1.5, 7)]), 0.0, 1.0)
    assert (found.sent, found.lost) == (1, 0)


def test_doubled_and_reordered() -> None:
    replies = [(0.011, 1), (0.012, 3), (0.013, 2), (0.014, 4), (0.015, 4), (0.016, 4)]
    found = figures.probe_figures(client([(0.010, number) for number in range(1, 5)], replies), 0.0, 0.1)
    assert (found.sent, found.lost, found.doubled, found.reordered) == (4, 0, 2, 1)


def test_spans_break_where_a_step_is_longer() -> None:
    times = np.array([1.0, 1.005, 1.01, 2.0, 3.0, 3.01])
    assert figures.spans(times, 0.01).tolist() == [[1.0, 1.01], [2.0, 2.0], [3.0, 3.01]]
    assert figures.spans(np.zeros(0), 0.01).shape == (0, 2)


def test_overlap_within_a_window() -> None:
    one, two = np.array([[0.0, 2.0], [5.0, 6.0]]), np.array([[1.0, 5.5]])
    assert figures.overlap(one, two, 0.0, 10.0) == pytest.approx(1.5)
    assert figures.overlap(one, two, 1.5, 5.25) == pytest.approx(0.75)
    assert figures.overlap(one, np.zeros((0, 2)), 0.0, 10.0) == 0.0


moments = st.lists(st.integers(0, 1000), min_size=2, max_size=12, unique=True).map(sorted)


@given(moments, moments)
def test_overlap_is_what_counting_says(one: list[int], two: list[int]) -> None:
    def stretches(ends: list[int]) -> np.ndarray:
        whole = ends[: len(ends) // 2 * 2]
        return np.array(whole, dtype=float).reshape(-1, 2)

    def covered(ends: list[int]) -> set[int]:
        return {at for begin, finish in stretches(ends).astype(int) for at in range(begin, finish)}

    assert figures.overlap(stretches(one), stretches(two), 0, 1000) == len(covered(one) & covered(two))


def test_without_cuts_the_time_in_which_a_node_was_dead() -> None:
    spans = np.array([[0.0, 10.0]])
    assert figures.without(spans, [(2.0, 3.0), (5.0, 20.0)]).tolist() == [[0.0, 2.0], [3.0, 5.0]]
    assert figures.without(spans, []).tolist() == [[0.0, 10.0]]
    assert figures.without(spans, [(0.0, 10.0)]).shape == (0, 2)


def test_held_spans_of_one_address() -> None:
    changes = [
        AddressChange(1.0, "fw1", "a", True),
        AddressChange(1.5, "fw2", "a", True),
        AddressChange(2.0, "fw1", "b", True),
        AddressChange(3.0, "fw1", "a", False),
        AddressChange(4.0, "fw1", "a", True),
    ]
    assert figures.held_spans(changes, "fw1", "a", 9.0).tolist() == [[1.0, 3.0], [4.0, 9.0]]
    assert figures.held_spans(changes, "fw2", "a", 9.0).tolist() == [[1.5, 9.0]]
    assert figures.held_spans(changes, "fw2", "b", 9.0).shape == (0, 2)


def test_the_last_moment_is_counted_from_the_start() -> None:
    times = np.array([1.0, 2.0, 2.5, 9.0])
    assert figures.last_after(times, 2.0, 5.0) == 0.5
    assert figures.last_after(times, 3.0, 5.0) == 0.0


def on_a_grid(count: int, late: dict[int, float]) -> np.ndarray:
    return np.array([5.0 + index * 0.25 + late.get(index, 0.0) for index in range(count)])


def test_lateness_is_measured_from_the_grid_that_the_earliest_mark() -> None:
    found = figures.lateness(on_a_grid(12, {0: 0.02, 1: 0.01, 6: 0.05, 7: 0.06}), 0.25)
    assert found == pytest.approx([0, 0, 0.05, 0.06, 0, 0, 0, 0])


def test_one_that_is_late_by_an_interval_starts_a_new_grid() -> None:
    times = np.concatenate([on_a_grid(6, {}), on_a_grid(4, {}) + 6 * 0.25 + 0.4])
    assert figures.lateness(times, 0.25) == pytest.approx([0, 0, 0.4, 0, 0, 0])


def test_lateness_wants_a_second_to_find_the_grid() -> None:
    assert len(figures.lateness(on_a_grid(4, {}), 0.25)) == 0
    assert figures.lateness_figures(np.zeros(0)) == figures.Lateness(0, 0.0, 0.0, 0.0, 0.0)
    found = figures.lateness_figures(np.arange(1001) / 1000)
    assert (found.count, found.median, found.worst) == (1001, 0.5, 1.0)
    assert found.p99 == pytest.approx(0.99)
    assert found.p999 == pytest.approx(0.999)


def test_a_pause_of_the_probe_itself_is_a_gap_but_nobody_waited() -> None:
    numbers = [*range(40), *range(60, 100)]
    paused = client(
        [(number / 1000, number) for number in numbers], [(number / 1000 + 0.0002, number) for number in numbers]
    )
    found = figures.probe_figures(paused, 0.010, 0.090)
    assert found.gap == pytest.approx(0.021)
    assert found.pace == pytest.approx(0.021)
    assert found.wait == pytest.approx(0.0002)
    found = figures.probe_figures(steady(100, without=tuple(range(40, 60))), 0.010, 0.090)
    assert found.wait == pytest.approx(0.0202)
