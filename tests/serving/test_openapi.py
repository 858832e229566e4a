"""The API as it describes itself: requests made from the description, and answers held to it."""

import os
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.testclient import TestClient

from adapterhub.serving import api
from adapterhub.serving.app import create_app
from adapterhub.serving.server import Server
from adapterhub.serving.settings import Settings
from serving.conftest import Place

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
EXAMPLES = int(os.environ.get("ADAPTERHUB_EXAMPLES", "5"))
NAMES = ("sentiment", "names", "vectors", "words", "answers")


def description() -> Any:
    """The OpenAPI document; no server is needed for it."""
    app = FastAPI(title="adapterhub", version="test")
    api.add_routes(app)
    return app.openapi()


OPERATIONS = [one.ok() for one in schemathesis.openapi.from_dict(description()).get_all_operations()]


@pytest.fixture(scope="module")
def client(place: Place) -> Iterator[TestClient]:
    server = Server.open(Settings(model=str(place.base), adapters=place.adapters, timeout=20, refresh_seconds=0))
    with TestClient(create_app(server), raise_server_exceptions=False) as made:
        yield made


def _known(body: Any, name: str) -> Any:
    """A body that asks for an adapter that there is, so that more than names is tried."""
    if isinstance(body, dict):
        for key in ("adapter", "model", "name"):
            if isinstance(body.get(key), str):
                body[key] = name
    return body


@pytest.mark.parametrize("known", [False, True], ids=["any", "known"])
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda one: one.value)
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: one.label)
def test_answers_are_as_they_are_described(client: TestClient, operation: Any, mode: Any, known: bool) -> None:
    @given(case=operation.as_strategy(generation_mode=mode))
    @examples(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def check(case: Any) -> None:
        if known:
            name = NAMES[len(str(case.body)) % len(NAMES)]
            case.body = _known(case.body, name)
            if "name" in (case.path_parameters or {}):
                case.path_parameters["name"] = name
        case.validate_response(client.request(**case.as_transport_kwargs(base_url="http://testserver")), checks=CHECKS)

    # What takes nothing has no wrong requests.
    with suppress(Unsatisfiable) if mode is GenerationMode.NEGATIVE else nullcontext():
        check()


def test_the_description_is_served(client: TestClient, tmp_path: Path) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/v1/predict", "/v1/embeddings", "/v1/adapters", "/models/{name}", "/ready"} <= set(paths)
