"""The published OpenAPI document, taken at its word: schemathesis makes requests from it and looks at the answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.gateway.plane.protocol.house import House
from tests.gateway.plane.protocol.wire import head

EXAMPLES = 4  # of each operation
# These wait for a controller, of which there is none here; or for news, as long as anybody listens.
WAITING = (
    "/admin/v1/models/", "/admin/v1/gpus/", "/admin/v1/reload", "/admin/v1/snapshot", "/admin/v1/record",
    "/admin/v1/logs", "/admin/v1/plan", "/admin/v1/nodes/", "/admin/v1/defrag", "/v1/realtime",
)  # fmt: skip
CHECKED = (response_schema_conformance, content_type_conformance, status_code_conformance)


@pytest.fixture
def document(house: House) -> Any:
    with house.caller() as caller:
        return json.loads(caller.ask(head(method="GET", path="/openapi.json"), "GET").body)


@contextmanager
def noted(problems: list[str], operation: str) -> Iterator[None]:
    """All operations are looked at, also when one of them is wrong."""
    try:
        yield
    except (AssertionError, schemathesis.errors.SchemathesisError, BaseExceptionGroup) as wrong:
        problems.append(f"{operation}: {wrong!r} {getattr(wrong, 'exceptions', '')}")


def test_answers_are_what_the_document_says(house: House, document: Any) -> None:
    asked, problems = 0, list[str]()
    for found in schemathesis.openapi.from_dict(document).get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()
        if operation.path.startswith(WAITING):
            continue
        key = house.world.admin_key if operation.path.startswith("/admin") else house.world.key

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(), key=st.just(key))
        def answers(case: schemathesis.Case, key: str) -> None:
            nonlocal asked
            asked += 1
            headers = {"authorization": f"Bearer {key}"}
            answer = case.call(base_url=f"http://127.0.0.1:{house.port}", headers=headers, timeout=60)  # wait_s: 30
            # Without an engine that can do it, or without a controller, a 503 is the truth.
            assert answer.status_code < 500 or answer.status_code in (503, 504), (case, answer.text)
            case.validate_response(answer, checks=list(CHECKED))

        with noted(problems, operation.label):
            answers()
    assert problems == []
    assert asked > 100
