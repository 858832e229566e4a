"""``composition.json``: adapters of a hub that act together, each pinned to a commit, as a thing to publish itself.

::

    {
      "format": "adapterhub-composition",
      "version": 1,
      "base": "xlm-roberta-base",
      "members": {
        "de": "ukp/xlmr-lang-de@0123456789abcdef0123456789abcdef01234567",
        "ner": "me/xlmr-ner@89abcdef0123456789abcdef0123456789abcdef"
      },
      "composition": {"type": "Stack", "children": [
        {"type": "single", "children": ["de"]}, {"type": "single", "children": ["ner"]}
      ]}
    }

``composition`` is what ``Composition.to_dict`` gives. A ``Fuse`` needs the fusion among the members, by its name.
``merges`` are adapters that are made of the parameters of members, and stand in the composition like these. ``heads``
are the members whose heads are active.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self, get_args

from adapterhub.composition import Composition, Fuse, Strategy, composition_from_dict
from adapterhub.errors import AdapterHubError, CompositionError
from adapterhub.hub.ids import Reference, RepositoryId, Revision

RECIPE = "composition.json"
_FORMAT, _VERSION = "adapterhub-composition", 1
_MOST = 64
_NAME = re.compile(r"(?!\.)[^/\\\x00-\x1f\x7f:*?\"<>|]{1,96}(?<![. ])")  # of a folder, on every system
_KEYS = {"format", "version", "base", "members", "merges", "composition", "heads"}


@dataclass(frozen=True)
class Merge:
    """How one adapter is made of several, by ``average_adapter``.

    Attributes:
        weights: by the name of the member.
        strategy: its ``combine_strategy``.
    """

    weights: Mapping[str, float]
    strategy: Strategy = "linear"
    normalize_weights: bool = True

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        plain = {"strategy": self.strategy, "normalize_weights": self.normalize_weights}
        return {"weights": dict(self.weights)} | plain


@dataclass(frozen=True)
class Recipe:
    """A composition of adapters on a hub.

    Attributes:
        base: the base model that all are for.
        members: repositories at commits, by the names that they have in the composition.
        merges: adapters that are made of members, by their names.
        heads: members whose heads are active.

    Raises:
        CompositionError: if names do not go together, or a member is not pinned.
    """

    composition: Composition
    members: Mapping[str, Reference]
    base: str
    merges: Mapping[str, Merge] = field(default_factory=dict)
    heads: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= len(self.members) <= _MOST:
            raise CompositionError(f"a recipe has 1 to {_MOST} members, not {len(self.members)}")
        for name, member in self.members.items():
            if member.revision is None or not member.revision.is_commit:
                raise CompositionError(f"{name!r} is pinned to no commit: write {member.repository}@<40 digits>")
        for name in (*self.members, *self.merges):
            if not _NAME.fullmatch(name):
                raise CompositionError(f"{name[:96]!r} can be no name of a member, which is that of a folder too")
        if twice := set(self.members) & set(self.merges):
            raise CompositionError(f"{sorted(twice)} are members, and are merged of others too")
        sources = {name for merge in self.merges.values() for name in merge.weights}
        adapters = set(self.composition.names())
        for names, known, what in (
            (adapters, {*self.members, *self.merges}, "the composition"),
            (self.fusions, set(self.members), "a Fuse"),
            (sources, set(self.members), "a merge"),
            (set(self.heads), set(self.members), "the heads"),
        ):
            if missing := sorted(names - known):
                raise CompositionError(f"{what} names {missing}, which no member is called")
        unused = {*self.members, *self.merges} - adapters - self.fusions - sources - set(self.heads)
        if unused:
            raise CompositionError(f"{sorted(unused)} are in no place of the composition: leave them out")

    @property
    def fusions(self) -> set[str]:
        """The names of its fusions."""
        return {block.fusion for block in self.composition.walk() if isinstance(block, Fuse)}

    def kind(self, name: str) -> str:
        """What a member has to be: an ``adapter``, a ``fusion`` or a ``head``."""
        if name in self.fusions:
            return "fusion"
        sources = {source for merge in self.merges.values() for source in merge.weights}
        return "adapter" if name in {*self.composition.names(), *sources} else "head"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; ``from_dict`` reads it back."""
        made: dict[str, Any] = {
            "format": _FORMAT,
            "version": _VERSION,
            "base": self.base,
            "members": {name: str(member) for name, member in self.members.items()},
            "composition": self.composition.to_dict(),
        }
        if self.merges:
            made["merges"] = {name: merge.to_dict() for name, merge in self.merges.items()}
        return made | ({"heads": list(self.heads)} if self.heads else {})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read back what ``to_dict`` gave.

        Raises:
            CompositionError: if it is not that.
        """
        if values.get("format") != _FORMAT or values.get("version") != _VERSION:
            raise CompositionError(f"a composition has the format {_FORMAT!r} and the version {_VERSION}")
        if unknown := sorted(set(values) - _KEYS):
            raise CompositionError(f"a composition has no {unknown}: it has {sorted(_KEYS)}")
        try:
            heads, base = values.get("heads", []), values["base"]
            if not isinstance(base, str) or not base or not isinstance(heads, list):
                raise TypeError("base is the name of a model, and heads a list of names")
            return cls(
                composition_from_dict(values["composition"]),
                {name: _pinned(text) for name, text in values["members"].items()},
                base,
                {name: _merge(one) for name, one in values.get("merges", {}).items()},
                tuple(heads),
            )
        except CompositionError:
            raise
        except (AdapterHubError, AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise CompositionError(f"this is no composition: {error!r}") from error

    @classmethod
    def read(cls, data: bytes) -> Self:
        """Read a ``composition.json``.

        Raises:
            CompositionError: if it is none.
        """
        try:
            values = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise CompositionError(f"{RECIPE} is not JSON: {error}") from error
        if not isinstance(values, dict):
            raise CompositionError(f"{RECIPE} holds no object")
        return cls.from_dict(values)


def _pinned(text: str) -> Reference:
    repository, _, commit = text.partition("@")
    return Reference(RepositoryId.parse(repository), Revision(commit))


def _merge(values: Mapping[str, Any]) -> Merge:
    if unknown := sorted(set(values) - {"weights", "strategy", "normalize_weights"}):
        raise CompositionError(f"a merge has no {unknown}")
    made = Merge(
        {name: float(weight) for name, weight in values["weights"].items()},
        values.get("strategy", "linear"),
        bool(values.get("normalize_weights", True)),
    )
    if not made.weights or not all(map(math.isfinite, made.weights.values())):
        raise CompositionError("a merge has a finite weight for each of its members")
    if made.strategy not in get_args(Strategy):
        raise CompositionError(f"adapters are merged by {', '.join(get_args(Strategy))}, not by {made.strategy!r}")
    return made
