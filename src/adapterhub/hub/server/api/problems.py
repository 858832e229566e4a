"""What the API answers with when it cannot do what it was asked."""

from typing import Any

from pydantic import BaseModel


class Problem(BaseModel):
    """An error in words (RFC 9457, ``application/problem+json``)."""

    type: str
    title: str
    status: int
    detail: str


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors that a route may answer with, for its documentation."""
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"model": Problem, "content": content} for status in (*statuses, 422, 429)}
