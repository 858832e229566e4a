"""Which base models an adapter fits, how well, and why.

What is not known never makes a verdict better: a model that is called as the one that the adapter was trained on is
that one by declaration, and one of which nothing is known but its sizes fits in shape at most.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum, StrEnum

from adapterhub.fingerprint import Fingerprint, Match, comparable, compare
from adapterhub.hub.bases import Base, Origin, canonical, is_public
from adapterhub.hub.inspecting.info import Need
from adapterhub.hub.projections import NAMES, family_of, lacks, role_of, widths

_LONGEST = 8  # of the places that do not fit; the others are counted
_FEW = 256  # tokens that one adds to a vocabulary, or with which its size is rounded up


class Level(IntEnum):
    """How well a base model suits an adapter; higher is better."""

    INCOMPATIBLE = 0
    SHAPE = 1
    DERIVED = 2
    SAME_BASE = 3
    EXACT = 4

    @property
    def label(self) -> str:
        """As addresses and JSON have it: ``same-base``."""
        return self.name.lower().replace("_", "-")


class Flag(StrEnum):
    """What a person should know beside the level."""

    BY_DECLARATION = "by-declaration"  # names or cards say so; weights were not compared
    REVISION_DRIFT = "revision-drift"
    QUANTISED = "quantised"
    TOKENIZER_MISMATCH = "tokenizer-mismatch"
    VOCABULARY_RESIZED = "vocabulary-resized"
    UNCHECKED = "unchecked"  # too little is known to tell that it fits


@dataclass(frozen=True)
class Requirement:
    """What an adapter says of the base model that it was trained on, and what it needs of any; None is unknown.

    Attributes:
        base: its name.
        revision: its commit.
        layers: of encoder and decoder together, where it is declared; layers that have weights are among ``needs``.
        vocab_size: of the base model as it was trained on.
        lineage: what that base model was made of, the closest first.
    """

    base: str | None = None
    revision: str | None = None
    fingerprint: Fingerprint | None = None
    model_type: str | None = None
    hidden_size: int | None = None
    layers: int | None = None
    vocab_size: int | None = None
    needs: tuple[Need, ...] = ()
    lineage: tuple[Origin, ...] = ()

    @classmethod
    def of_fingerprint(
        cls, fingerprint: Fingerprint, needs: tuple[Need, ...] = (), lineage: tuple[Origin, ...] = ()
    ) -> "Requirement":
        """What an adapter asks for that was saved with the fingerprint of its base model."""
        return cls(
            base=fingerprint.name or None,
            revision=fingerprint.revision,
            fingerprint=fingerprint,
            model_type=fingerprint.model_type,
            hidden_size=fingerprint.hidden_size or None,
            layers=fingerprint.layers or None,
            vocab_size=fingerprint.vocab_size,
            needs=needs,
            lineage=lineage,
        )


@dataclass(frozen=True)
class Verdict:
    """How well a base model suits an adapter.

    Attributes:
        level: how well.
        reasons: why, in sentences.
        flags: what to know beside, in the order of ``Flag``.
    """

    level: Level
    reasons: tuple[str, ...]
    flags: tuple[Flag, ...] = ()


def verdict(requirement: Requirement, base: Base) -> Verdict:
    """Whether an adapter fits a base model: by its weights, else by what is declared, else by its shapes."""
    weights = _weights(requirement.fingerprint, base.fingerprint)
    problems = contradictions(requirement, base)
    if not problems and weights is Match.OTHER_SHAPE:
        problems = ("the layers of the base have parameters of other names or shapes than those trained on",)
    if not problems and weights not in (Match.EXACT, Match.SAME):
        problems = tuple(_other_architecture(requirement, base))
    flags = dict(_flags(requirement, base))
    if problems:
        return Verdict(Level.INCOMPATIBLE, problems, _ordered(set(flags)))
    level, reason, more = _level(requirement, base, weights)
    return Verdict(level, (reason, *filter(None, flags.values())), _ordered({*flags, *more}))


def contradictions(requirement: Requirement, base: Base) -> tuple[str, ...]:
    """What of an adapter cannot go into a base model, in sentences; embeddings can be resized, and do not count."""
    found = [
        f"the {what} is {then} in the adapter, {here} in the base"
        for what, then, here in (
            ("hidden size", requirement.hidden_size, base.hidden_size),
            ("number of layers", requirement.layers, base.layers),
        )
        if then and here and then != here
    ]
    places = list(_misfits(requirement.needs, base))
    more = [f"and {len(places) - _LONGEST} more places do not fit"] if len(places) > _LONGEST else []
    return (*found, *places[:_LONGEST], *more)


def _misfits(needs: tuple[Need, ...], base: Base) -> Iterator[str]:
    for need in needs:
        where = "" if need.layer is None else f"layer {need.layer}: "
        if need.layer is not None and base.deepest is not None and need.layer >= base.deepest:
            yield f"{where}the adapter has weights for it, and the base has {base.deepest} layers"
        elif lacks(base, need.module):
            yield f"{where}the adapter acts on {need.module}, and a {base.model_type!r} has no module of that name"
        elif (role := role_of(need.module)) and any(one != other for one, other in _widths(need, role, base)):
            sizes = [" x ".join(str(one or "?") for one in side) for side in (need[2:], widths(role, base))]
            yield f"{where}the {NAMES[role]} is {sizes[0]} in the adapter, {sizes[1]} in the base"


def _widths(need: Need, role: str, base: Base) -> list[tuple[int, int]]:
    """What is known of a module on both sides, and must be the same."""
    if role == "output" and None in need[2:]:  # a prefix, as wide as keys and values
        return []
    reads, gives = zip(need[2:], widths(role, base), strict=True)
    compared = {"embeddings": [gives], "qkv": [reads]}.get(role, [reads, gives])  # one may act on q and v alone
    return [(one, other) for one, other in compared if one and other]


def _weights(saved: Fingerprint | None, here: Fingerprint | None) -> Match | None:
    """How the weights compare, or None where that cannot be told."""
    if saved is None or here is None:
        return None
    match, _ = compare(saved, here)
    return match if match is Match.OTHER_SHAPE or comparable(saved.weights, here.weights) else None


def _other_architecture(requirement: Requirement, base: Base) -> Iterator[str]:
    then, here = requirement.model_type, base.model_type
    if then and here and then != here and (family_of(then) is None or family_of(then) != family_of(here)):
        yield f"the adapter is for models of type {then!r}, and the base is a {here!r}, whose modules are others"


def _level(requirement: Requirement, base: Base, weights: Match | None) -> tuple[Level, str, tuple[Flag, ...]]:
    """The level of a base into which the adapter goes, as far as is known, and why."""
    if weights is Match.EXACT:
        return Level.EXACT, "the weights are those that the adapter was trained on", ()
    if weights is Match.SAME:
        return Level.SAME_BASE, "the weights are those that the adapter was trained on, in another precision", ()
    unlike = _unlike(requirement, base)
    if unlike is None and (declared := _declared(requirement, base, weights)) is not None:
        return declared
    if unlike is None:
        unlike = "it is not known that the base has to do with the one trained on"
        if requirement.base and base.names:
            unlike = f"the adapter was trained on {requirement.base}, and the base is {base.names[0]}"
    if _shape_is_known(requirement, base, weights):
        return Level.SHAPE, f"{unlike}: the shapes fit, no more", ()
    return Level.INCOMPATIBLE, f"{unlike}, and too little is known of both to tell whether it fits", (Flag.UNCHECKED,)


def _unlike(requirement: Requirement, base: Base) -> str | None:
    """Why the base is another model, whatever it is called."""
    then, here = requirement.model_type, base.model_type
    if then and here and then != here:
        return f"the adapter was trained on a {then!r}, and the base is a {here!r}"
    if _is_named(base, requirement.base) and _is_other_vocabulary(requirement, base):
        return f"the base is called {requirement.base} as the one trained on, and has another vocabulary"
    return None


def _declared(
    requirement: Requirement, base: Base, weights: Match | None
) -> tuple[Level, str, tuple[Flag, ...]] | None:
    """What names and cards say, as far as the weights do not speak against it."""
    name, other = requirement.base, weights is Match.OTHER_WEIGHTS
    if not _is_named(base, name):
        if (found := _relation(requirement, base)) is None:
            return None
        return min(found[0], Level.DERIVED) if other else found[0], found[1], (Flag.BY_DECLARATION,)
    if not other:
        reason = f"the adapter was trained on {name}, and the base is called so; weights could not be compared"
        return Level.SAME_BASE, reason, (Flag.BY_DECLARATION,)
    if _drifted(requirement, base):
        return Level.SAME_BASE, f"the base is another revision of {name}, which the adapter was trained on", ()
    reason = f"the base is called {name} as the one trained on, and has other weights: it was trained further"
    return Level.DERIVED, reason, (Flag.BY_DECLARATION,)


def _is_named(base: Base, name: str | None) -> bool:
    return name is not None and is_public(name) and canonical(name) in {canonical(one) for one in base.names}


def _relation(requirement: Requirement, base: Base) -> tuple[Level, str] | None:
    """What follows from what the two models were made of, as it is declared."""
    name = requirement.base
    then = [Origin(name or "", ""), *requirement.lineage]  # the relation of each is that of the one before it
    here = [Origin("".join(base.names[:1]), ""), *base.lineage]
    for up, ours in enumerate(then):
        for down, theirs in enumerate(here):
            if not (is_public(ours.name) and canonical(ours.name) == canonical(theirs.name)):
                continue
            if any(origin.relation != "quantized" for origin in then[1 : up + 1]):
                return None  # what the adapter was trained on was trained further than the base
            changes = [origin.relation for origin in here[1 : down + 1] if origin.relation != "quantized"]
            if changes:
                return Level.DERIVED, f"the base was made ({changes[-1]}) of {name}, which the adapter was trained on"
            return Level.SAME_BASE, f"the base and {name}, which the adapter was trained on, differ in precision"
    return None


def _shape_is_known(requirement: Requirement, base: Base, weights: Match | None) -> bool:
    """Whether something was compared, and could have failed to fit."""
    if weights is not None or (requirement.hidden_size and base.hidden_size):
        return True
    return any((role := role_of(need.module)) and _widths(need, role, base) for need in requirement.needs)


def _flags(requirement: Requirement, base: Base) -> Iterator[tuple[Flag, str]]:
    """Each with what is to be said of it, or nothing."""
    then, here = requirement.vocab_size, base.vocab_size
    saved, found = requirement.fingerprint, base.fingerprint
    tokenizers = (saved.tokenizer if saved else None, found.tokenizer if found else None)
    if comparable(*tokenizers) and tokenizers[0] != tokenizers[1]:
        yield Flag.TOKENIZER_MISMATCH, "the tokenizer is another one than that trained with"
    elif _is_other_vocabulary(requirement, base):
        yield Flag.TOKENIZER_MISMATCH, f"the vocabulary has {then} tokens in the adapter, {here} in the base"
    rows = {need.reads for need in requirement.needs if role_of(need.module) == "embeddings" and need.reads}
    if here and (wrong := rows - {here}):
        text = f"the adapter has weights for {max(wrong)} tokens, and the base has {here}: resize its embeddings first"
        yield Flag.VOCABULARY_RESIZED, text
    elif then and here and then != here and not _is_other_vocabulary(requirement, base):
        yield Flag.VOCABULARY_RESIZED, f"the vocabulary was resized: {then} tokens in the adapter, {here} in the base"
    if _is_named(base, requirement.base) and _drifted(requirement, base):
        text = f"the adapter was trained on revision {requirement.revision}, and the base is at {base.revision}"
        yield Flag.REVISION_DRIFT, text
    if base.quantised:
        yield Flag.QUANTISED, "the base is quantised"


def _drifted(requirement: Requirement, base: Base) -> bool:
    return None not in (requirement.revision, base.revision) and requirement.revision != base.revision


def _is_other_vocabulary(requirement: Requirement, base: Base) -> bool:
    """Whether the sizes differ by more than a few tokens that were added, or a rounding up."""
    then, here = requirement.vocab_size, base.vocab_size
    return bool(then and here and abs(then - here) > max(_FEW, min(then, here) // 10))


def _ordered(flags: set[Flag]) -> tuple[Flag, ...]:
    return tuple(flag for flag in Flag if flag in flags)
