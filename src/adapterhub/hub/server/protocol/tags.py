"""The tags of an adapter: those of its card, and those that follow from what it is."""

from collections.abc import Callable, Iterable

from sqlalchemy import ColumnElement, and_, exists, func, or_

from adapterhub.hub.server.database import Adapter, AdapterTag, BaseModel, Dataset, Repository

# What the libraries that read a format are called on the Hugging Face Hub.
LIBRARIES = {"adapterhub": "adapterhub", "adapters": "adapter-transformers", "peft": "peft"}


def tags(adapter: Adapter | None, own: Iterable[str]) -> list[str]:
    """All tags of an adapter, where ``own`` are those of its card."""
    if adapter is None:
        return sorted(own)
    made = {*own, adapter.language, LIBRARIES.get(adapter.format, "")}
    if adapter.base is not None:
        made |= {f"base_model:{adapter.base.name}", f"base_model:adapter:{adapter.base.name}"}
    if adapter.dataset is not None:
        made.add(f"dataset:{adapter.dataset.source or adapter.dataset.slug}")
    if adapter.license:
        made.add(f"license:{adapter.license}")
    return sorted(made - {""})


def has(tag: str) -> ColumnElement[bool]:
    """Whether a repository, joined to all that is known of its adapter, has a tag."""
    own = exists().where(AdapterTag.repository_id == Repository.id, AdapterTag.tag == tag.lower())
    formats = [name for name, library in LIBRARIES.items() if library == tag]
    ways = [own, Adapter.format.in_(formats)]
    if tag:
        ways.append(Adapter.language == tag.lower())
    for prefix, condition in _BY_PREFIX:
        if tag.startswith(prefix):
            ways.append(condition(tag.removeprefix(prefix)))
    return or_(*ways)


def _of_base(name: str) -> ColumnElement[bool]:
    return BaseModel.key == name.lower()


def _of_dataset(name: str) -> ColumnElement[bool]:
    return func.coalesce(func.nullif(Dataset.source, ""), Dataset.slug) == name


def _licensed(name: str) -> ColumnElement[bool]:
    return and_(Adapter.license == name.lower(), Adapter.license != "")


_BY_PREFIX: tuple[tuple[str, Callable[[str], ColumnElement[bool]]], ...] = (
    ("base_model:", _of_base),
    ("base_model:adapter:", _of_base),
    ("dataset:", _of_dataset),
    ("license:", _licensed),
)
