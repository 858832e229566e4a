"""What the API answers with when it cannot do what it was asked."""

from typing import Any

from pydantic import BaseModel


class Problem(BaseModel):
    """An error in words (RFC 9457, ``application/problem+json``)."""

    type: str
    title: str
    status: int
    detail: str


class Choices(Problem):
    """Several adapters that answer to an identifier equally well: ``candidates`` are their names."""

    candidates: list[str]


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors that a route may answer with, for its documentation: of all, to what is malformed, or too much."""
    return {status: _described(Choices if status == 300 else Problem) for status in (400, *statuses, 422, 429)}


def _described(model: type[Problem]) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"model": model, "content": {"application/problem+json": {"schema": schema}}}
