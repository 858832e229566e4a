"""The API as it describes itself: requests made from the description, and answers held to it."""

import os
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.testclient import TestClient

from adapterhub.hub.server import accounts
from adapterhub.hub.server.app import create_app
from adapterhub.hub.server.settings import Settings
from hub.server.api.description import description

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
EXAMPLES = int(os.environ.get("ADAPTERHUB_EXAMPLES", "5"))
OPERATIONS = [one.ok() for one in schemathesis.openapi.from_dict(description()).get_all_operations()]


@dataclass
class Served:
    """An application, and the header of who administers it."""

    client: TestClient
    header: dict[str, str]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    app = create_app(Settings(directory=tmp_path_factory.mktemp("described") / "hub", requests_per_minute=10**9))
    with app.state.hub.database.write() as session:
        token = accounts.new_token(session, accounts.add_user(session, "ann", None, admin=True), "test", "admin")
    yield Served(TestClient(app, raise_server_exceptions=False), {"Authorization": f"Bearer {token}"})
    app.state.hub.close()


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda one: one.value)
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: one.label)
def test_answers_are_as_they_are_described(served: Served, operation: Any, mode: GenerationMode) -> None:
    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def check(case: Any) -> None:
        request = case.as_transport_kwargs(base_url="http://testserver")
        request["headers"] = {**request.get("headers", {}), **served.header}
        case.validate_response(served.client.request(**request), checks=CHECKS)

    # What takes nothing has no wrong requests.
    with suppress(Unsatisfiable) if mode is GenerationMode.NEGATIVE else nullcontext():
        check()
