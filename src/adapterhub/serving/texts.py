"""What a request brings: texts, pairs of texts, questions about texts."""

from dataclasses import dataclass

from adapterhub.serving.errors import BadInputError, InputTooLargeError


@dataclass(frozen=True)
class Text:
    """A text, or two that belong together."""

    text: str
    pair: str | None = None


@dataclass(frozen=True)
class Question:
    """A question, and the text that answers it."""

    question: str
    context: str


Input = Text | Question


def check(one: Input, max_characters: int) -> None:
    """Pass what can be read.

    Raises:
        BadInputError: for a text that is empty, or that is none in Unicode.
        InputTooLargeError: for one of more characters.
    """
    for name, value in vars(one).items():
        if value is None:
            continue
        if not value.strip():
            raise BadInputError(f"{name} is empty: give a text")
        if len(value) > max_characters:
            raise InputTooLargeError(f"{name} has {len(value):,} characters, and {max_characters:,} are taken")
        if any("\ud800" <= letter <= "\udfff" for letter in value):
            raise BadInputError(f"{name} holds half a character (a lone surrogate), which is no Unicode text")
