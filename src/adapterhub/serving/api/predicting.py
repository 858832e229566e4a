"""Answers of any kind, of one adapter or of several to the same texts."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, model_validator

from adapterhub.serving.answers import Answer
from adapterhub.serving.api.asking import Name, One, Seconds, Setup, read_inputs, read_setup
from adapterhub.serving.api.context import TheServer
from adapterhub.serving.engine import Asked
from adapterhub.serving.failures import problems
from adapterhub.serving.server import Server, while_connected
from adapterhub.serving.tasks import Task

router = APIRouter(prefix="/v1", tags=["answers"])


class Prediction(BaseModel):
    """Texts, and the adapters that are asked about them."""

    model_config = ConfigDict(extra="forbid")

    inputs: One | list[One]
    adapter: Setup | None = Field(None, description="By default the model's own head answers, if it has one")
    adapters: Annotated[list[Setup | None], Field(min_length=1, max_length=16)] | None = Field(
        None, description="In the place of `adapter`: several, each of which answers to all inputs"
    )
    head: Name | None = Field(None, description="The adapter whose head answers, in the place of the last one's")
    top_k: int = Field(5, ge=1, le=100, description="How many of the likeliest labels, spans or tokens are told")
    timeout: Seconds | None = None

    @model_validator(mode="after")
    def _check(self) -> "Prediction":
        if self.adapter is not None and self.adapters is not None:
            raise ValueError("give adapter, or adapters, and not both")
        return self


class Usage(BaseModel):
    """What it took."""

    tokens: int = Field(description="That were read, of all adapters together")


class Result(BaseModel):
    """What one adapter, or composition of some, answers."""

    adapter: Setup | None = Field(description="As it was asked for")
    task: Task
    versions: dict[str, str] = Field(description="Of the adapters that answered: a commit, or a digest of the folder")
    outputs: list[Answer] = Field(description="In the order of the inputs")


class Predicted(BaseModel):
    """The answers, in the order of the adapters that were asked."""

    model: str
    results: list[Result]
    usage: Usage


@router.post("/predict", responses=problems(404, 409, 503, 504), response_model_exclude_none=True)
async def predict(request: Request, server: TheServer, given: Prediction) -> Predicted:
    """What adapters answer to texts."""
    setups = given.adapters if given.adapters is not None else [given.adapter]
    tokens, results = 0, []
    for result, read in await while_connected(request, _all(server, given, setups)):
        results.append(result)
        tokens += read
    return Predicted(model=server.name, results=results, usage=Usage(tokens=tokens))


async def _all(server: Server, given: Prediction, setups: list[Setup | None]) -> list[tuple[Result, int]]:
    tasks = [asyncio.ensure_future(_one(server, given, setup)) for setup in setups]
    try:
        return await asyncio.gather(*tasks)
    finally:  # where one has an error for an answer, the others are of no use
        for task in tasks:
            task.cancel()


async def _one(server: Server, given: Prediction, setup: Setup | None) -> tuple[Result, int]:
    seconds = given.timeout or server.settings.timeout
    asked = Asked(read_inputs(given.inputs), read_setup(setup), given.head, None, given.top_k, seconds)
    found = await server.engine.predict(asked)
    return Result(adapter=setup, task=found.task, versions=found.versions, outputs=found.answers), found.tokens
