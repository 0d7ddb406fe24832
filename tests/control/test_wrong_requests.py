"""Wrong requests to a node: each is refused with an error of its own, changes nothing, and is one line in the history.

Everything is real but the supervisor: TLS, HTTP, the routes of all parts and what stands behind them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import pytest

from tests.control import wrong_bodies, wrong_connections, wrong_http, wrong_push
from tests.control.wrong_world import Case, World, problems

FAMILIES: list[Callable[[World], Iterable[Case]]] = [
    wrong_connections.tls,
    wrong_connections.plain,
    wrong_connections.no_certificate,
    wrong_connections.revoked,
    wrong_connections.rights,
    wrong_connections.api_version,
    wrong_http.malformed,
    wrong_http.old,
    wrong_http.bad_chunks,
    wrong_http.not_there,
    wrong_http.wrong_method,
    wrong_bodies.not_wanted,
    wrong_bodies.bad_json,
    wrong_bodies.bad_query,
    wrong_push.manifests,
    wrong_push.orders,
    wrong_push.contents,
    wrong_push.reading,
    wrong_push.services,
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("wrong")) as made:
        yield made


@pytest.mark.parametrize(
    "family", FAMILIES, ids=lambda family: f"{family.__module__.rpartition('.')[2]}.{family.__name__}"
)
def test_refused(world: World, family: Callable[[World], Iterable[Case]]) -> None:
    faults = len(world.faults())
    wrong = [f"{case.name}: {problem}" for case in family(world) for problem in problems(world, case)]
    assert not wrong, "\n" + "\n".join(wrong)
    assert not world.faults()[faults:]
    assert world.get("/v1/node")["name"] == "fw2"


def test_there_are_many(world: World) -> None:
    cases = [case for family in FAMILIES for case in family(world)]
    assert len({case.name for case in cases}) == len(cases)
    assert len({(case.asker, case.request, case.tls, case.plain) for case in cases}) >= 200
