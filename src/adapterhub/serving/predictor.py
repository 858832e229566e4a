"""From a request to its answers: its adapters, its rows, the batches that run them, and what is read from these."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from adapterhub.composition import Composition, renamed
from adapterhub.serving.adapters import Adapters, Loaded
from adapterhub.serving.answers import Answer, Reader
from adapterhub.serving.batching import Batcher
from adapterhub.serving.encoding import Encoded, Encoder
from adapterhub.serving.errors import BadInputError, DeadlineError, InputTooLargeError, WrongHeadError
from adapterhub.serving.model import MEAN, OWN, ServedModel
from adapterhub.serving.rows import Output, Row
from adapterhub.serving.tasks import Task, task_of
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


class Predictor:
    """Answers requests.

    Args:
        max_inputs: of one request.
        max_characters: of one text.
    """

    def __init__(
        self,
        model: ServedModel,
        adapters: Adapters,
        batcher: Batcher,
        encoder: Encoder,
        max_inputs: int,
        max_characters: int,
    ) -> None:
        self._model, self._adapters, self._batcher, self._encoder = model, adapters, batcher, encoder
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
            async with asyncio.timeout_at(due), self._leased(asked) as leased:
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

    @asynccontextmanager
    async def _leased(self, asked: Asked) -> AsyncIterator[Mapping[str, Loaded]]:
        names = asked.setup.names() if asked.setup else ()
        async with self._adapters.lease((*names, *([asked.head] if asked.head else []))) as leased:
            yield leased

    async def _answered(self, asked: Asked, leased: Mapping[str, Loaded], due: float) -> Answered:
        head, task = self._head(asked, leased)
        encoded = await self._threaded(lambda: [self._encoder.encode(one, task) for one in asked.inputs])
        setup = asked.setup and renamed(asked.setup, {name: one.held.slot for name, one in leased.items()})
        windows = [window for parts in encoded for part in parts for window in part.windows]
        types = self._encoder.has_types
        rows = [Row(window.ids, window.type_ids if types else None, setup, head) for window in windows]
        outputs = await self._batcher.answers(rows, repr(asked.setup), due)
        reader = Reader(task, self._labels(head), self._model.tokenizer, asked.top)
        answers = await self._threaded(lambda: _read(reader, asked.inputs, encoded, outputs))
        versions = {name: one.found.version for name, one in leased.items()}
        return Answered(task, answers, versions, sum(map(len, rows)))

    def _head(self, asked: Asked, leased: Mapping[str, Loaded]) -> tuple[str, Task]:
        """The head that answers, by its name in the model, and its task."""
        name = asked.head or (asked.setup.last() if asked.setup else None)
        slot = OWN if name is None else leased[name].held.slot
        head = self._model.head(slot)
        task = None if head is None else task_of(head)
        if asked.task is Task.embedding and task is not Task.embedding and not asked.head:
            return MEAN, Task.embedding
        whose = "the model itself" if name is None else f"the adapter {name!r}"
        if head is None:
            raise WrongHeadError(f"{whose} has no head that could answer: name one by 'head', or ask for embeddings")
        if task is None:
            kind = head.to_dict().get("architecture", head.head_type)
            raise WrongHeadError(f"{whose} has a head of the kind {kind}, which is not served")
        if asked.task not in (None, task):
            raise WrongHeadError(f"{whose} is for {task}, and {asked.task} was asked for")
        return slot, task

    def _labels(self, head: str) -> dict[int, str]:
        found = self._model.head(head)
        return dict(found.labels or {}) if found is not None else {}

    async def _threaded(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _read(
    reader: Reader, inputs: Sequence[Input], encoded: Sequence[Sequence[Encoded]], outputs: Sequence[Output]
) -> list[Answer]:
    """The answers to inputs, whose rows follow one another."""
    left, answers = iter(outputs), []
    for one, parts in zip(inputs, encoded, strict=True):
        own = [next(left) for part in parts for _ in part.windows]
        answers.append(reader.read(one, parts, own))
    return answers
