"""Vectors for texts, as OpenAI's clients ask for them."""

import base64
import struct
from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from adapterhub.serving.api.asking import read_setup
from adapterhub.serving.api.context import TheServer
from adapterhub.serving.engine import Asked
from adapterhub.serving.failures import problems
from adapterhub.serving.server import while_connected
from adapterhub.serving.tasks import Task
from adapterhub.serving.texts import Text

router = APIRouter(prefix="/v1", tags=["answers"])


class EmbeddingRequest(BaseModel):
    """Texts; ``model`` is an adapter, or the base model."""

    model_config = ConfigDict(extra="forbid")

    input: str | list[str]
    model: str = Field("", max_length=300, description="An adapter; the name of the base model, or nothing, for that")
    encoding_format: Literal["float", "base64"] = Field("float", description="Numbers, or float32 in base64")
    user: str | None = Field(None, description="Has no effect")


class Embedding(BaseModel):
    """One vector."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingUsage(BaseModel):
    """Tokens that were read."""

    prompt_tokens: int
    total_tokens: int


class Embeddings(BaseModel):
    """The vectors, in the order of the texts."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


@router.post("/embeddings", responses=problems(404, 409, 503, 504))
async def embed(request: Request, server: TheServer, given: EmbeddingRequest) -> Embeddings:
    """A vector for each text: by the adapter's own head for vectors, or the mean of what it gives for the tokens."""
    texts = [Text(one) for one in ([given.input] if isinstance(given.input, str) else given.input)]
    setup = None if given.model in ("", server.name) else read_setup(given.model)
    asked = Asked(texts, setup, task=Task.embedding, seconds=server.settings.timeout)
    found = await while_connected(request, server.engine.predict(asked))
    vectors = [answer.embedding or [] for answer in found.answers]
    data = [
        Embedding(index=index, embedding=vector if given.encoding_format == "float" else _packed(vector))
        for index, vector in enumerate(vectors)
    ]
    usage = EmbeddingUsage(prompt_tokens=found.tokens, total_tokens=found.tokens)
    return Embeddings(data=data, model=given.model or server.name, usage=usage)


def _packed(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
