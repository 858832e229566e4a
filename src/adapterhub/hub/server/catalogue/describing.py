"""What the catalogue says of an adapter, from its files and its card; where both speak, the files count."""

from dataclasses import dataclass

from adapterhub.hub.card import Card
from adapterhub.hub.inspecting import AdapterInfo
from adapterhub.hub.server.catalogue.scores import Result

_LONGEST = 300  # letters of a summary
_MOST_TAGS = 64


@dataclass(frozen=True)
class Description:
    """What is said of an adapter, in the words of its author.

    Attributes:
        task, dataset: where it wants to be in the catalogue, as far as it says so.
        sources: data sets that it was trained on, by their names on the Hugging Face Hub.
    """

    title: str = ""
    summary: str = ""
    body: str = ""
    license: str = ""
    language: str = ""
    base: str | None = None
    task: str = ""
    dataset: str = ""
    sources: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    results: tuple[Result, ...] = ()


def describe(info: AdapterInfo, card: Card | None) -> Description:
    """Bring together what files and card say."""
    card = card or Card("")
    own = (*card.tags, card.pipeline_tag)  # by which clients of the Hugging Face Hub search, too
    tags = tuple(dict.fromkeys(tag.strip().lower()[:255] for tag in own if tag.strip()))[:_MOST_TAGS]
    task, dataset = (info.task or card.task).lower(), (info.dataset or card.dataset).lower()
    if task == "lang":  # as coordinates have it: lang/de, lang/de/wiki
        task, _, dataset = dataset.partition("/")
    languages = (*info.languages, *card.languages)
    return Description(
        title=card.title,
        summary=card.summary[:_LONGEST],
        body=card.body,
        license=card.license.lower()[:64],
        language=languages[0].lower()[:16] if languages else "",
        base=info.base or card.base or None,
        task=task,
        dataset=dataset,
        sources=tuple(one.lower() for one in card.datasets),
        tags=tags,
        results=tuple(Result(one.metric, one.value, one.dataset, one.split) for one in card.scores),
    )
