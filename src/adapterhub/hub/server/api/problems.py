"""What the API answers with when it cannot do what it was asked."""

from typing import Any

from adapterhub.http.problems import Problem, described


class Choices(Problem):
    """Several adapters that answer to an identifier equally well: ``candidates`` are their names."""

    candidates: list[str]


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors that a route may answer with, for its documentation: of all, to what is malformed, or too much."""
    return {status: described(Choices if status == 300 else Problem) for status in (400, *statuses, 422, 429)}
