"""Every implementation of SHA-1 that this CPU can run, one after the other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hacore._fast import advert


@pytest.fixture(params=["auto", *advert.sha1_implementations()])
def sha1_implementation(request: pytest.FixtureRequest) -> Iterator[str]:
    name: str = request.param
    advert.select_sha1(name)
    yield name
    advert.select_sha1("auto")
