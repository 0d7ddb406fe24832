"""The OpenAPI document of the node API against the worker that serves it: requests made from the document, good and
bad, over TLS, and whatever comes back has to be what the document says.

What fits a schema may be refused all the same: none says that a signature is right, or a path one of a section's.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.control.wrong_world import World

EXAMPLES = 25


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("openapi")) as made:
        yield made


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_the_worker_answers_as_the_document_says(world: World, mode: GenerationMode) -> None:
    document = world.get("/v1/openapi.json")
    schema = schemathesis.openapi.from_dict(document)
    certificate = (str(world.directory / "fw1.crt"), str(world.directory / "fw1.key"))
    operations = [one.ok() for one in schema.get_all_operations() if isinstance(one, Ok)]
    assert len(operations) == len(world.routes)
    faults = len(world.faults())
    session = requests.Session()
    session.cert, session.verify, session.trust_env = certificate, False, False
    for operation in operations:
        asked = 0

        @settings(
            max_examples=EXAMPLES, deadline=None, derandomize=True, database=None,
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(operation.as_strategy(generation_mode=mode))
        def ask(case: schemathesis.Case[Any]) -> None:
            nonlocal asked
            asked += 1
            with warnings.catch_warnings(action="ignore"):
                answer = case.call(
                    base_url=f"https://127.0.0.1:{world.port}", session=session, timeout=20, verify=False
                )
                case.validate_response(answer, excluded_checks=[positive_data_acceptance])

        try:
            ask()
        except Unsatisfiable:
            assert mode is GenerationMode.NEGATIVE  # it takes nothing that could be wrong
            assert not asked
    session.close()
    assert world.faults()[faults:] == []
