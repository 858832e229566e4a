"""From a request to its answers: its adapters, its rows, the batches that run them, and what is read from these."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from adapterhub.composition import Composition, renamed
from adapterhub.errors import HeadError
from adapterhub.heads import Head
from adapterhub.inference.tasks import Reader
from adapterhub.serving.adapters import Adapters, Loaded
from adapterhub.serving.answers import Answer
from adapterhub.serving.batching import Batcher
from adapterhub.serving.errors import BadInputError, DeadlineError, InputTooLargeError, WrongHeadError
from adapterhub.serving.model import OWN, ServedModel
from adapterhub.serving.reading import Encoded, HeadReader
from adapterhub.serving.rows import Output, Row
from adapterhub.serving.tasks import Task, name_of
from adapterhub.serving.texts import Input, check

_T = TypeVar("_T")
_ENCODERS = 2


@dataclass(frozen=True)
class Asked:
    """Texts, and what is asked about them.

    Attributes:
        inputs: the texts.
        setup: adapters by their names outside, or None for the bare model.
        head: the adapter whose head answers; by default the last one of the setup.
        task: the one that the head has to be for, or None for any. For vectors a head is made where there is none.
        top: how many of the likeliest labels, spans or tokens are told.
        seconds: in which the answer is wanted.
    """

    inputs: Sequence[Input]
    setup: Composition | None
    head: str | None = None
    task: Task | None = None
    top: int = 5
    seconds: float = 30.0

    @property
    def names(self) -> tuple[str, ...]:
        """The adapters that it takes to answer."""
        return (*(self.setup.names() if self.setup else ()), *([self.head] if self.head else []))


@dataclass(frozen=True)
class Answered:
    """The answers to a request.

    Attributes:
        task: what they are.
        answers: one for each input.
        versions: of the adapters that gave them.
        tokens: that were read, special ones included.
    """

    task: Task
    answers: list[Answer]
    versions: dict[str, str]
    tokens: int


class ServingEngine:
    """Answers requests.

    Args:
        max_tokens: of a row.
        max_inputs: of one request.
        max_characters: of one text.
    """

    def __init__(
        self,
        model: ServedModel,
        adapters: Adapters,
        batcher: Batcher,
        max_tokens: int,
        max_inputs: int,
        max_characters: int,
    ) -> None:
        self._model, self._adapters, self._batcher, self._max_tokens = model, adapters, batcher, max_tokens
        self._max_inputs, self._max_characters = max_inputs, max_characters
        self._threads = ThreadPoolExecutor(_ENCODERS, "texts")

    async def predict(self, asked: Asked) -> Answered:
        """The answers, in the order of the inputs.

        Raises:
            DeadlineError: if they are not there in time.
            AdapterHubError: as ``Adapters.lease`` and ``Batcher.answers``; ``BadInputError`` for wrong inputs.
        """
        self._check(asked)
        due = asyncio.get_running_loop().time() + asked.seconds
        try:
            async with asyncio.timeout_at(due), self._adapters.lease(asked.names) as leased:
                return await self._answered(asked, leased, due)
        except TimeoutError:
            raise DeadlineError(f"there was no answer within {asked.seconds:g} seconds") from None

    def stop(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _check(self, asked: Asked) -> None:
        if not asked.inputs:
            raise BadInputError("there are no inputs: give a text, or several")
        if len(asked.inputs) > self._max_inputs:
            raise InputTooLargeError(f"{len(asked.inputs):,} inputs, and {self._max_inputs:,} are taken at once")
        for one in asked.inputs:
            check(one, self._max_characters)
        self._batcher.check_room(len(asked.inputs))

    async def _answered(self, asked: Asked, leased: Mapping[str, Loaded], due: float) -> Answered:
        head = self._head(asked, leased)
        reader = self._reader(asked, head)
        encoded = await self._threaded(lambda: reader.encode(asked.inputs))
        setup = asked.setup and renamed(asked.setup, {name: one.held.slot for name, one in leased.items()})
        rows = [Row(tokens, setup, head.name) for one in encoded for tokens in one.rows]
        outputs = await self._batcher.answers(rows, repr(asked.setup), due)
        answers = await self._threaded(lambda: _read(reader, encoded, outputs))
        versions = {name: one.found.version for name, one in leased.items()}
        return Answered(reader.task, answers, versions, sum(map(len, rows)))

    def _head(self, asked: Asked, leased: Mapping[str, Loaded]) -> Head:
        """The head that answers."""
        name = asked.head or (asked.setup.last() if asked.setup else None)
        head = self._model.head(OWN if name is None else leased[name].held.slot)
        whose = "the model itself" if name is None else f"the adapter {name!r}"
        if asked.task is Task.embedding and not asked.head and (head is None or not _is_for(head, asked.task)):
            return self._model.mean
        if head is None:
            raise WrongHeadError(f"{whose} has no head that could answer: name one by 'head', or ask for embeddings")
        if asked.task is not None and not _is_for(head, asked.task):
            raise WrongHeadError(f"the head of {whose} is not for {asked.task}")
        return head

    def _reader(self, asked: Asked, head: Head) -> HeadReader:
        known = Reader(self._model.tokenizer, self._max_tokens, head.labels or {}, head.problem_type)
        return HeadReader(head, known, asked.top)

    async def _threaded(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _is_for(head: Head, task: Task) -> bool:
    try:
        return name_of(head) is task
    except HeadError:
        return False


def _read(reader: HeadReader, encoded: Sequence[Encoded], outputs: Sequence[Output]) -> list[Answer]:
    """The answers to inputs, whose rows follow one another."""
    left = iter(outputs)
    return [reader.read(one, list(islice(left, len(one.rows)))) for one in encoded]
