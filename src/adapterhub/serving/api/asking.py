"""What requests are made of: texts, and adapters."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from adapterhub.composition import Average, Composition, Stack
from adapterhub.serving.texts import Input, Question, Text

Name = Annotated[
    str,
    Field(
        min_length=1,
        max_length=300,
        pattern=r"^[^\x00-\x1f\x7f]+$",
        description="An adapter: the path of its folder, or its name on the hub",
        examples=["sentiment/sst-2@me"],
    ),
]
Seconds = Annotated[float, Field(gt=0, le=300, allow_inf_nan=False, description="In which the answer is wanted")]
_MOST = 16  # adapters of one stack, and setups of one request


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class TextBody(_Strict):
    """A text, or two that belong together; an adapter for sentence vectors compares the two."""

    text: str
    text_pair: str | None = None


class QuestionBody(_Strict):
    """A question, and the text that answers it."""

    question: str
    context: str


class AverageBody(_Strict):
    """The weighted mean of what adapters give."""

    average: list[Name] = Field(min_length=1, max_length=_MOST)
    weights: list[Annotated[float, Field(allow_inf_nan=False)]] | None = Field(None, description="By default equal")

    def read(self) -> Composition:
        """As a composition."""
        return Average(*self.average, weights=self.weights)


class StackBody(_Strict):
    """Adapters one after another, as a language and a task; the head is that of the last one."""

    stack: list[Name | AverageBody] = Field(min_length=1, max_length=_MOST)

    def read(self) -> Composition:
        """As a composition."""
        return Stack(*(one if isinstance(one, str) else one.read() for one in self.stack))


Setup = Name | StackBody | AverageBody
One = str | TextBody | QuestionBody


def read_setup(setup: "Setup | None") -> Composition | None:
    """The composition that a request names.

    Raises:
        CompositionError: if it is none, for its weights say.
    """
    if setup is None:
        return None
    return Stack(setup) if isinstance(setup, str) else setup.read()


def read_inputs(inputs: "One | Sequence[One]") -> list[Input]:
    """The texts that a request brings."""
    given = [inputs] if isinstance(inputs, str | TextBody | QuestionBody) else inputs
    return [_read(one) for one in given]


def _read(one: One) -> Input:
    match one:
        case str():
            return Text(one)
        case TextBody():
            return Text(one.text, one.text_pair)
    return Question(one.question, one.context)
