"""What clients of the Hugging Face Hub ask models for, in the shapes of its Inference API."""

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from adapterhub.serving.answers import Answer, Fill, Score, Span
from adapterhub.serving.api.adapters import InPath
from adapterhub.serving.api.asking import QuestionBody, read_inputs, read_setup
from adapterhub.serving.api.context import TheServer
from adapterhub.serving.engine import Asked
from adapterhub.serving.failures import problems
from adapterhub.serving.server import while_connected
from adapterhub.serving.tasks import Task
from adapterhub.serving.texts import Input, Text

router = APIRouter(prefix="/models", tags=["Hugging Face"])


class Sentences(BaseModel):
    """A sentence, and others that are compared with it."""

    model_config = ConfigDict(extra="forbid")

    source_sentence: str
    sentences: list[str]


class Parameters(BaseModel):
    """Of an answer; others that the Inference API has, have no effect."""

    top_k: int = Field(5, ge=1, le=100)


class InferenceRequest(BaseModel):
    """As for the Inference API."""

    inputs: str | list[str] | QuestionBody | Sentences
    parameters: Parameters = Parameters(top_k=5)


@router.post("/{name:path}", responses=problems(403, 404, 409, 503, 504))
async def infer(request: Request, server: TheServer, name: InPath, given: InferenceRequest) -> Any:
    """What an adapter (or the base model, by its name) answers, in the shape for its task."""
    setup = None if name == server.name else read_setup(name)
    task = Task.embedding if isinstance(given.inputs, Sentences) else None
    asked = Asked(_inputs(given.inputs), setup, None, task, given.parameters.top_k, server.settings.timeout)
    found = await while_connected(request, server.engine.predict(asked))
    texts = [one.text if isinstance(one, Text) else one.context for one in asked.inputs]
    shaped = [_shaped(found.task, text, answer) for text, answer in zip(texts, found.answers, strict=True)]
    # For classes, that of one text is a list of one, as there.
    many = isinstance(given.inputs, list | Sentences) or found.task in _CLASSES
    return shaped if many else shaped[0]


_CLASSES = (Task.classification, Task.multi_label, Task.regression)


def _inputs(given: str | list[str] | QuestionBody | Sentences) -> list[Input]:
    if isinstance(given, Sentences):
        return [Text(given.source_sentence, one) for one in given.sentences]
    return read_inputs(given)


def _shaped(task: Task, text: str, answer: Answer) -> Any:
    match task:
        case Task.classification | Task.multi_label:
            return [vars(one) for one in answer.scores or ()]
        case Task.regression:
            return [vars(Score("LABEL_0", answer.value or 0.0))]
        case Task.tagging:
            return [_entity(one) for one in answer.spans or ()]
        case Task.question_answering:
            return _best(answer.spans or [])
        case Task.embedding:
            return answer.embedding if answer.similarity is None else answer.similarity
    gaps = [[_filled(one) for one in gap] for gap in answer.gaps or ()]
    return gaps[0] if len(gaps) == 1 else gaps


def _entity(span: Span) -> dict[str, Any]:
    said = {"entity_group": span.label, "score": span.score}
    return {**said, "word": span.text, "start": span.start, "end": span.end}


def _best(spans: list[Span]) -> dict[str, Any]:
    best = spans[0] if spans else Span("", 0, 0, 0.0)
    return {"answer": best.text, "score": best.score, "start": best.start, "end": best.end}


def _filled(fill: Fill) -> dict[str, Any]:
    return {"token_str": fill.token, "score": fill.score}
