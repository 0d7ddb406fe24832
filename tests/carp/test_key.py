"""The public face: names that come when they are asked for, and what they leave unimported."""

from __future__ import annotations

import subprocess
import sys

import pytest

import hacore.carp
from hacore._fast import advert


def test_names_come_when_they_are_asked_for() -> None:
    assert hacore.carp.AdvertKey is advert.AdvertKey
    assert hacore.carp.Advertisement is advert.Advertisement
    assert {"AdvertKey", "Advertisement", "Verdict"} <= set(dir(hacore.carp))
    for name in hacore.carp.__all__:
        assert getattr(hacore.carp, name).__name__ == name


def test_a_name_that_is_none_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"module 'hacore\.carp' has no attribute 'Advert'"):
        _ = hacore.carp.Advert


def test_numpy_is_imported_by_the_many_forms_alone() -> None:
    program = """
import sys
from hacore._fast.advert import advert_frame, parse_frame
from hacore.carp import AdvertKey, Verdict
key = AdvertKey("secret", 1, ["10.66.0.100", "fe80::1"])
mac, address = bytes(6), bytes(4)
key.verify(parse_frame(advert_frame(mac, mac, address, address, key.build(1, 0, 5))).payload)
before = "numpy" in sys.modules
key.build_many(1, 0, [1])
print(before, "numpy" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
