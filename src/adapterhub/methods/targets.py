"""Which weights a method acts on: by role, by name, by expression."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from adapterhub.errors import ConfigError
from adapterhub.methods.base import AdapterConfig, Place, Weight

ROLES = ("q", "k", "v", "o", "qkv", "kv", "up", "gate", "gate_up", "down")
ALL_LINEAR = "all-linear"


@dataclass(frozen=True, eq=False)
class TargetsConfig(AdapterConfig):
    """Configuration of a method that acts on chosen weights.

    ``selfattn_lora`` chooses the projections of attention that ``attn_matrices`` lists (``q k v o``, also where they
    stand in one fused weight), ``intermediate_lora`` those into the feed-forward, ``output_lora`` the one out of it.
    ``target_modules`` takes the place of all four: a list of roles (``q k v o up gate down``), names of modules
    (``q_proj``, or the end of a path), or ``"all-linear"``, every linear map in the layers; or a text that is a regular
    expression for whole paths. ``leave_out`` names layers to skip, counted over the whole model.

    Raises:
        ConfigError: for a value out of range.
    """

    selfattn_lora: bool = True
    intermediate_lora: bool = False
    output_lora: bool = False
    attn_matrices: tuple[str, ...] = ("q", "v")
    target_modules: str | tuple[str, ...] | None = None
    leave_out: tuple[int | str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("leave_out", "attn_matrices"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not isinstance(self.target_modules, str | None):
            object.__setattr__(self, "target_modules", tuple(self.target_modules))
        unknown = set(self.attn_matrices) - {"q", "k", "v", "o"}
        self._require(not unknown, "attn_matrices", "some of q, k, v and o")
        check_expressions(expressions(self.target_modules), type(self).__name__)

    def check(self, places: Sequence[Place]) -> None:
        """Every target has to be there.

        Raises:
            ConfigError: naming those that fit nothing, and what is near.
        """
        super().check(places)
        check_targets(self.target_modules, [place for place in places if self.weight_at(place) is not None])

    def weight_at(self, place: Place) -> Weight | None:
        """The weight of a place that this method could act on."""
        return place.weight

    def acts_at(self, place: Place) -> bool:
        """Whether there is a part at a place."""
        if self.weight_at(place) is None or place.is_in(self.leave_out):
            return False
        if self.target_modules is not None:
            return fits(place, self.target_modules)
        roles = set(self.attn_matrices) if self.selfattn_lora else set()
        roles |= {"up", "gate", "gate_up"} if self.intermediate_lora else set()
        roles |= {"down"} if self.output_lora else set()
        return place.role in roles


def fits(place: Place, targets: str | Iterable[str]) -> bool:
    """Whether a place is one of ``targets``, as ``TargetsConfig`` says what they are."""
    return any(_fits(place, target, targets) for target in _listed(targets))


def check_targets(targets: str | Iterable[str] | None, places: Sequence[Place]) -> None:
    """Pass targets of which each is one of the places.

    Raises:
        ConfigError: naming those that fit nothing, and what is near.
    """
    for target in _listed(targets):
        if any(_fits(place, target, targets) for place in places):
            continue
        names = {place.role for place in places} | {place.path.rpartition(".")[2] for place in places}
        near = get_close_matches(target, names, n=5, cutoff=0.4)
        raise ConfigError(
            f"target_modules: no {places[0].kind if places else 'weight'} of this model is {target!r}. "
            + (f"Near: {', '.join(near)}." if near else f"There are: {', '.join(sorted(names))}.")
        )


def expressions(targets: "str | Iterable[str] | None") -> tuple[str, ...]:
    """The regular expressions among ``targets``: a text alone that is no role."""
    return (targets,) if isinstance(targets, str) and targets not in (ALL_LINEAR, *ROLES) else ()


def check_expressions(patterns: Iterable[str], owner: str) -> None:
    """Pass regular expressions.

    Raises:
        ConfigError: for a text that is none.
    """
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ConfigError(f"{owner}: {pattern!r} is no regular expression: {error}") from error


def at_the_end(pattern: str) -> str:
    """The regular expression of PEFT for paths that end in whole parts that fit ``pattern``."""
    return rf"(.*\.)?({pattern})"


def _listed(targets: str | Iterable[str] | None) -> tuple[str, ...]:
    return () if targets is None else (targets,) if isinstance(targets, str) else tuple(targets)


def _fits(place: Place, target: str, targets: "str | Iterable[str] | None") -> bool:
    if target == ALL_LINEAR:
        return place.whole and place.layer is not None and place.weight is not None and place.role != "embedding"
    if target in expressions(targets):
        return place.whole and re.fullmatch(target, place.path) is not None
    if place.role == target and place.role in ROLES:
        return True
    return place.whole and f".{place.path}".endswith(f".{target}")
