"""The card of an adapter: ``README.md`` with front matter as the Hugging Face Hub and AdapterHub have it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Self

from adapterhub.errors import UploadRefusedError
from adapterhub.hub.front_matter import split, write

CARD = "README.md"  # the file of it
TOPIC = "adapterhub:"  # begins the tag that says where in the catalogue an adapter stands
_SUMMARY = 500
_NO_PROSE = ("#", "<", "|", "!", "[!", ">", "```", "~~~", "---", "===", "- ", "* ", "+ ", "    ")
_LISTS = {"tags": "tags", "language": "languages", "datasets": "datasets", "base_model": "base_models"}
_TEXTS = {"license": "license", "library_name": "library_name", "pipeline_tag": "pipeline_tag"}
_INDEX = "model-index"


@dataclass(frozen=True)
class ClaimedScore:
    """A result that a card claims: ``value`` of ``metric`` on ``dataset``; ``""`` is for what it does not say."""

    dataset: str
    metric: str
    value: float
    split: str = ""
    task: str = ""
    dataset_name: str = ""
    metric_name: str = ""
    config: str = ""
    revision: str = ""


@dataclass(frozen=True)
class Card:
    """What a card says.

    Attributes:
        body: its Markdown, which is not to be trusted.
        tags, languages, datasets, base_models: lists of the front matter, in which one text may stand for a list.
        license, library_name, pipeline_tag: texts of it.
        scores: of its ``model-index``; claims, which nobody has verified.
        name: of the model in the ``model-index``.
        others: all other keys of the front matter, ready for JSON.
    """

    body: str = ""
    tags: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    base_models: tuple[str, ...] = ()
    license: str = ""
    library_name: str = ""
    pipeline_tag: str = ""
    scores: tuple[ClaimedScore, ...] = ()
    name: str = ""
    others: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str | bytes, where: str = CARD) -> Self:
        """Read a card; of a ``model-index``, results without a number are passed over.

        Raises:
            UploadRefusedError: for what is no text, front matter that is no YAML or not safe, and keys in it that
                hold another kind of value, with the key and what to do.
        """
        if isinstance(text, bytes):
            try:
                text = text.decode()
            except UnicodeDecodeError as error:
                raise UploadRefusedError(f"{where} is no text: {error}. Save it as UTF-8.") from error
        front, body = split(text, where)
        lists = {own: _texts(front.pop(key, None), key, where) for key, own in _LISTS.items()}
        texts = {own: next(iter(_texts(front.pop(key, None), key, where)), "") for key, own in _TEXTS.items()}
        name, scores = _index(front.pop(_INDEX, None), where)
        return cls(body=body, **lists, **texts, name=name, scores=scores, others=front)  # type: ignore[arg-type]

    def front_matter(self) -> dict[str, Any]:
        """The front matter, without what is empty."""
        values: dict[str, Any] = {}
        for key, own in (*_TEXTS.items(), *_LISTS.items()):
            value = getattr(self, own)
            if value:
                values[key] = list(value) if isinstance(value, tuple) else value
        values |= self.others
        if self.scores or self.name:
            values[_INDEX] = [{"name": self.name, "results": _results(self.scores)}]
        return values

    def render(self) -> str:
        """The card as text; ``parse`` reads it back."""
        return write(self.front_matter(), self.body)

    @property
    def topics(self) -> tuple[tuple[str, str], ...]:
        """Task (or language) and data set of the tags ``adapterhub:task/dataset``."""
        found = []
        for tag in self.tags:
            if tag.startswith(TOPIC):
                task, _, dataset = tag.removeprefix(TOPIC).partition("/")
                found.append((task, dataset))
        return tuple(topic for topic in dict.fromkeys(found) if topic[0])

    @property
    def task(self) -> str:
        """The task (or language) of the first of the topics, or ``""``."""
        return self.topics[0][0] if self.topics else ""

    @property
    def dataset(self) -> str:
        """The data set of the first of the topics, or ``""``."""
        return self.topics[0][1] if self.topics else ""

    @property
    def base(self) -> str:
        """The first of the base models, or ``""``."""
        return self.base_models[0] if self.base_models else ""

    @property
    def title(self) -> str:
        """The first heading of the highest level, or ``""``."""
        return next((line[2:].strip() for line in self._lines() if line.startswith("# ")), "")

    @property
    def summary(self) -> str:
        """The first paragraph of prose, at most 500 characters of it, or ``""``."""
        for prose, lines in groupby(self._lines(), lambda line: bool(line.strip()) and not line.startswith(_NO_PROSE)):
            if prose:
                text = " ".join(line.strip() for line in lines)
                return text if len(text) <= _SUMMARY else text[: _SUMMARY - 1] + "…"
        return ""

    def _lines(self) -> list[str]:
        """The lines of the body that stand in no block of code."""
        found, fence = [], ""
        for line in self.body.split("\n"):
            mark = line.lstrip(" ")[:3]
            if mark in ("```", "~~~") and (not fence or mark == fence):
                fence = "" if fence else mark
            elif not fence:
                found.append(line)
        return found


def _texts(value: Any, key: str, where: str) -> tuple[str, ...]:
    """A text, or a list of texts; numbers stand for how they are written."""
    values = value if isinstance(value, list) else [] if value is None else [value]
    if any(isinstance(one, dict | list) or one is None for one in values):
        raise UploadRefusedError(f"{where}: {key!r} must be a text or a list of texts, and is {str(value)[:80]}")
    return tuple(str(one) for one in values)


def _text(values: Mapping[str, Any], key: str) -> str:
    value = values.get(key)
    return "" if value is None or isinstance(value, dict | list) else str(value)


def _index(value: Any, where: str) -> tuple[str, tuple[ClaimedScore, ...]]:
    """The name and the scores of a ``model-index``; of several models, those of the first."""
    if value in (None, []):
        return "", ()
    model = value[0] if isinstance(value, list) else value
    if not isinstance(model, dict):
        raise UploadRefusedError(f"{where}: {_INDEX!r} must be a list of models, each with its name and results")
    results = model.get("results")
    if not isinstance(results, list | None) or not all(isinstance(one, dict) for one in results or ()):
        raise UploadRefusedError(f"{where}: the results in {_INDEX!r} must be a list, each with a dataset and metrics")
    found = [score for one in results or () for score in _scores(one, where)]
    return _text(model, "name"), tuple(found)


def _scores(result: Mapping[str, Any], where: str) -> list[ClaimedScore]:
    task, dataset, metrics = (result.get(key) or {} for key in ("task", "dataset", "metrics"))
    metrics = metrics or []
    if not (isinstance(task, dict) and isinstance(dataset, dict) and isinstance(metrics, list)):
        raise UploadRefusedError(f"{where}: a result in {_INDEX!r} must have a task, a dataset and a list of metrics")
    found = []
    for metric in metrics:
        if not isinstance(metric, dict):
            raise UploadRefusedError(f"{where}: a metric in {_INDEX!r} must have a type and a value, and is {metric!r}")
        value, name, on = metric.get("value"), _text(metric, "type"), _text(dataset, "type") or _text(dataset, "name")
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            continue
        if name and on:
            found.append(
                ClaimedScore(
                    dataset=on,
                    metric=name,
                    value=value,
                    task=_text(task, "type"),
                    dataset_name=_text(dataset, "name"),
                    metric_name=_text(metric, "name"),
                    config=_text(dataset, "config"),
                    split=_text(dataset, "split"),
                    revision=_text(dataset, "revision"),
                )
            )
    return found


def _results(scores: tuple[ClaimedScore, ...]) -> list[dict[str, Any]]:
    """The results of a ``model-index``: one for each data set."""
    made = []
    for (task, *about), group in groupby(scores, lambda one: (one.task, *_about(one).items())):
        metrics = [{"type": one.metric, "name": one.metric_name, "value": one.value} for one in group]
        result = {"task": {"type": task}} if task else {}
        made.append(result | {"dataset": dict(about), "metrics": [_known(metric) for metric in metrics]})
    return made


def _about(score: ClaimedScore) -> dict[str, Any]:
    given = {"type": score.dataset, "name": score.dataset_name}
    return _known(given | {"config": score.config, "split": score.split, "revision": score.revision})


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value not in (None, "")}
