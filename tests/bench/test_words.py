"""Numbers as they are read: three figures, and a unit of which there is one or more."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hacore.bench import words
from tests.bench.made_up import figure, result

FACTORS = {
    "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12,
    "B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
    "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "%": 0.01,
}  # fmt: skip


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (20_555, "flows/s", "20.6 k flows/s"),
        (205_550, "flows/s", "206 k flows/s"),
        (2_055_500, "flows/s", "2.06 M flows/s"),
        (9_999, "flows/s", "9999 flows/s"),
        (9_999.6, "flows/s", "10.0 k flows/s"),
        (10_000, "1", "10 k"),
        (999_499, "states/s", "999 k states/s"),
        (999_999, "states/s", "1.00 M states/s"),
        (999.6, "1", "1000"),
        (0.5, "1", "0.50"),
        (0.0004, "1", "0.00040"),
        (0, "flows/s", "0 flows/s"),
        (2, "states", "2 states"),
        (4_132, "B", "4.13 kB"),
        (20_555, "bytes", "20.6 kB"),
        (0, "B", "0 B"),
        (-11.3, "B", "-11.3 B"),
        (4.9, "bytes/state", "4.90 B/state"),
        (153e6, "bytes", "153 MB"),
        (1e12, "bytes", "1 TB"),
        (0.999_4, "s", "999 ms"),
        (0.999_6, "s", "1.00 s"),
        (9.996, "s", "10.0 s"),
        (99.96, "s", "100 s"),
        (3600.0, "s", "3600 s"),
        (0.007, "s", "7 ms"),
        (0.000_29, "s", "290 us"),
        (4e-8, "s/flow", "40 ns/flow"),
        (3e-11, "s", "0.030 ns"),
        (-0.5, "s", "-500 ms"),
        (-0.0, "s", "0 s"),
        (0.000_47, "cores", "0.047 %"),
        (0.0047, "cores", "0.47 %"),
        (1.5, "cores", "150 %"),
    ],
)
def test_a_value_with_its_unit(value: float, unit: str, expected: str) -> None:
    assert words.single(value, unit) == expected


@given(
    st.floats(-1e14, 1e14).filter(lambda value: value == 0 or abs(value) > 1e-10),
    st.sampled_from(["s", "B", "bytes", "1", "flows", "cores"]),
)
def test_what_is_written_is_the_value(value: float, unit: str) -> None:
    written = words.single(value, unit).removesuffix("flows").strip()
    number, _, of = written.partition(" ")
    assert re.fullmatch(r"-?\d+(\.\d+)?", number)
    read = float(number) * FACTORS[of]
    assert read == pytest.approx(value, rel=0.05 if abs(float(number)) < 1 else 0.005, abs=0)
    if unit in ("s", "B", "bytes") and of not in ("s", "TB"):
        assert abs(float(number)) < 1000


@given(st.floats(1e-9, 1e13), st.floats(1, 1.5), st.sampled_from(["s", "B", "flows/s"]))
def test_more_is_never_written_as_less(value: float, times: float, unit: str) -> None:
    pair = [words.single(each, unit).split()[:2] for each in (value, value * times)]
    units = ["" if of == "flows/s" else of for _, of in pair]
    low, high = (float(number) * FACTORS[of] for (number, _), of in zip(pair, units, strict=True))
    assert low <= high * (1 + 1e-9)


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [
        (2, "2.00x"),
        (1, "1.00x"),
        (0.5, "0.50x"),
        (0.004, "0.0040x"),
        (0, "0x"),
        (9.994, "9.99x"),
        (9.996, "10x"),
        (123.4, "123x"),
    ],
)
def test_ratios(ratio: float, expected: str) -> None:
    assert words.ratio_text(ratio) == expected


@pytest.mark.parametrize(
    ("samples", "unit", "expected"),
    [
        ([0.001, 0.001, 2.0], "s", "0.0010 / 2 s"),
        ([999_999.0, 1_000_001.0, 1_000_002.0], "1", "1.00 M"),
        ([0.5, 0.9996], "s", "0.75 / 1.00 s"),
    ],
)
def test_median_and_worst_have_one_unit(samples: list[float], unit: str, expected: str) -> None:
    assert words.spread(figure(samples, unit=unit)) == expected


def test_settings_with_lists_can_be_told_apart() -> None:
    found = dict(words.facts(result(settings={"states": [10_000, 1_000_000], "repeat": 3, "quick": True})))
    assert found["settings"] == "states 10,000, 1,000,000; repeat 3; quick True"


def test_a_distribution_has_its_percentiles_told() -> None:
    samples = [0.001 * number for number in range(1, 101)]
    assert words.tail(figure(samples)) == "90 %: 90.1, 99 %: 99.0 ms"
    assert words.tail(figure(samples[:9])) == ""
    assert words.tail(figure([0.0] * 20)) == ""
    assert words.tail(figure(samples, better="more")) == ""
