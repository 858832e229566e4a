"""Shapes of an adapter's tensors as forms: each tensor has dimensions by name, and one name is one number.

``{"lora_A": "r in", "lora_B": "out r"}`` says that both are matrices, and that what the first gives the second takes.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from adapterhub.errors import UploadRefusedError
from adapterhub.hub.inspecting.info import Need

Shape = tuple[int, ...]
Sizes = Mapping[str, int]
_TERM = re.compile(r"(?P<times>\d*)(?P<name>[A-Za-z]*)(?:/(?P<parts>[A-Za-z]+))?(?:\*(?P<copies>[A-Za-z]+))?")
_LAYER = re.compile(r"\.(\d{1,6})\.")
_COPIES = 3  # of q, k and v
_DEEPEST = 6  # parts of a leaf


@dataclass(frozen=True)
class Form:
    """The tensors of a part of an adapter, by what follows the path of its module.

    Dimensions are ``n`` (a number by that name), ``2n``, ``n/m`` (an ``m``-th of it), ``n*m`` (``m`` of it, one above
    the other), or a number. A name in capitals is the same number in all parts. Where a part can have several forms,
    ``|`` stands between those of each of its tensors.

    Attributes:
        must: those that are there.
        may: those that may be.
        at: the first name of the path of a part that is there once; ``""`` for one that is there for many modules.
        reads, gives: names of what comes in and goes out; ``u+v`` is their sum.
        hidden: the name of what is the hidden size of the base.
    """

    must: Mapping[str, str]
    may: Mapping[str, str] = field(default_factory=dict)
    at: str = ""
    reads: str = ""
    gives: str = ""
    hidden: str = ""


@dataclass(frozen=True)
class Plan:
    """The forms of the parts of an adapter with one configuration.

    ``sizes`` are the numbers that a name may stand for. ``relation`` says of the numbers of a part what is wrong.
    ``sides`` tells of a module and its numbers what comes in and goes out, where the form does not, and ``width`` the
    hidden size of the base.
    """

    forms: tuple[Form, ...]
    sizes: Mapping[str, Collection[int]] = field(default_factory=dict)
    relation: Callable[[Sizes], str | None] = lambda sizes: None
    sides: Callable[[str, Sizes], tuple[int | None, int | None]] | None = None
    width: Callable[[str, Sizes], int | None] = lambda module, sizes: None


@dataclass(frozen=True)
class Part:
    """A part that was found: its module and form, what it asks of a base, and the base's hidden size if it tells."""

    module: str
    form: Form
    need: Need
    hidden: int | None


def parts(tensors: Mapping[str, Shape], plan: Plan, where: str) -> list[Part]:
    """The parts of an adapter: each tensor is in one of them, and each is as its form has it.

    Raises:
        UploadRefusedError: for a tensor that is left over, missing, or of a shape that does not fit.
    """
    found: list[Part] = []
    common: dict[str, int] = {}
    for (index, module), leaves in _grouped(tensors, plan, where).items():
        form = plan.forms[index]
        sizes = _sizes(form, module, leaves, _only(plan) | common, where)
        _check_sizes(plan, module, sizes, where)
        common |= {name: size for name, size in sizes.items() if name.isupper()}
        hidden = sizes.get(form.hidden, plan.width(module, sizes))
        found.append(Part(module, form, _need(plan, form, module, sizes), hidden))
    for form in plan.forms:
        if form.at and not any(part.form is form for part in found):
            _refuse(where, f"lacks the tensor {_at(form.at, next(iter(form.must)))}, which its configuration asks for")
    many = [form for form in plan.forms if not form.at]
    if not any(part.form in many for part in found if many) and (many or not found):
        _refuse(where, "holds no tensor of what its configuration says it is")
    return found


def parts_of_several(tensors: Mapping[str, Shape], plans: Sequence[Plan], where: str) -> list[Part]:
    """The parts of several configurations, whose tensors have names of one kind: each module is of the first that fits.

    Raises:
        UploadRefusedError: as ``parts``, and for a module that fits none of them.
    """
    if len(plans) == 1:
        return parts(tensors, plans[0], where)
    every = Plan(tuple(form for plan in plans for form in plan.forms))
    modules: dict[str, dict[str, Shape]] = {}
    for (_, module), leaves in _grouped(tensors, every, where).items():
        own = {f"{module}.{leaf}" if module else leaf: shape for leaf, shape in leaves.items()}
        modules.setdefault(module, {}).update(own)
    shares: list[dict[str, Shape]] = [{} for _ in plans]
    for own in modules.values():
        fitting = [share for plan, share in zip(plans, shares, strict=True) if _is_whole(own, plan, where)]
        (fitting or shares)[0].update(own)  # the first one says what is wrong with what fits nowhere
    return [part for plan, own in zip(plans, shares, strict=True) if own for part in parts(own, plan, where)]


def _is_whole(own: Mapping[str, Shape], plan: Plan, where: str) -> bool:
    """Whether the tensors of a module are those of a part of this configuration."""
    try:
        for (index, module), leaves in _grouped(own, plan, where).items():
            sizes = _sizes(plan.forms[index], module, leaves, _only(plan), where)
            _check_sizes(plan, module, sizes, where)
    except UploadRefusedError:
        return False
    return True


def needs(found: Iterable[Part]) -> tuple[Need, ...]:
    """What parts ask of a base, layer by layer; what they only share with one another asks nothing."""
    asked = {part.need for part in found if part.form.gives or not part.form.at}
    return tuple(sorted(asked, key=lambda need: (need.layer is None, need.layer or 0, str(need))))


def layer_of(module: str) -> int | None:
    """The number of a layer: the first one within the path of a module."""
    match = _LAYER.search(module)
    return None if match is None else int(match[1])


def _grouped(tensors: Mapping[str, Shape], plan: Plan, where: str) -> dict[tuple[int, str], dict[str, Shape]]:
    """Tensors by form and module."""
    owners: dict[str, list[int]] = {}
    for index, form in enumerate(plan.forms):
        for leaf in (*form.must, *form.may):
            owners.setdefault(leaf, []).append(index)
    groups: dict[tuple[int, str], dict[str, Shape]] = {}
    for name, shape in tensors.items():
        claim = next(_claims(name, plan, owners), None)
        if claim is None:
            _refuse(where, f"holds the tensor {name!r}, which no part of its configuration claims: it is left over")
        index, module, leaf = claim
        groups.setdefault((index, module), {})[leaf] = shape
    return groups


def _claims(name: str, plan: Plan, owners: Mapping[str, list[int]]) -> Iterator[tuple[int, str, str]]:
    """Forms that have a tensor of that name, with its module and leaf: the longest leaf first."""
    names = name.split(".")
    for start in range(max(0, len(names) - _DEEPEST), len(names)):
        leaf = ".".join(names[start:])
        for index in owners.get(leaf, ()):
            at = plan.forms[index].at
            if (names[0] == at) if at else True:
                yield index, ".".join(names[:start]), leaf


def _sizes(form: Form, module: str, leaves: Mapping[str, Shape], common: Sizes, where: str) -> dict[str, int]:
    """The numbers that names stand for in a part.

    Raises:
        UploadRefusedError: if a tensor is missing, or of a shape that does not fit.
    """
    if missing := [leaf for leaf in form.must if leaf not in leaves]:
        _refuse(where, f"lacks the tensor {_at(module, missing[0])}, which its configuration asks for")
    wanted = {leaf: dims.split("|") for leaf, dims in (*form.must.items(), *form.may.items()) if leaf in leaves}
    count = max(len(ways) for ways in wanted.values())
    problems = []
    for way in range(count):
        sizes = dict(common)
        chosen = {leaf: ways[way % len(ways)] for leaf, ways in wanted.items()}
        wrong = next((leaf for leaf, dims in chosen.items() if not _bind(dims, leaves[leaf], sizes)), None)
        if wrong is None:
            return sizes
        problems.append((wrong, chosen[wrong], sizes))
    leaf, dims, sizes = problems[0]
    known = ", ".join(f"{name} = {size}" for name, size in sizes.items() if name in re.findall("[A-Za-z]+", dims))
    raise _refused(
        where,
        f"holds the tensor {_at(module, leaf)} of shape {list(leaves[leaf])}, where [{', '.join(dims.split())}] is "
        f"expected{' with ' + known if known else ''}",
    )


def _bind(dims: str, shape: Shape, sizes: dict[str, int]) -> bool:
    """Whether a shape is of these dimensions, given what names stand for, which this adds to."""
    terms = dims.split()
    return len(terms) == len(shape) and all(_fits(term, size, sizes) for term, size in zip(terms, shape, strict=True))


def _fits(term: str, size: int, sizes: dict[str, int]) -> bool:
    match = _TERM.fullmatch(term)
    assert match is not None, term
    times, name = int(match["times"] or 1), match["name"]
    if not name:
        return size == times
    if match["copies"]:
        count, rest = divmod(size, sizes[name])
        return not rest and 1 <= count <= _COPIES and sizes.setdefault(match["copies"], count) == count
    if match["parts"]:
        size *= sizes[match["parts"]]
    return size > 0 and size % times == 0 and sizes.setdefault(name, size // times) == size // times


def _only(plan: Plan) -> dict[str, int]:
    """The numbers that can be one alone."""
    return {name: next(iter(allowed)) for name, allowed in plan.sizes.items() if len(allowed) == 1}


def _check_sizes(plan: Plan, module: str, sizes: Sizes, where: str) -> None:
    for name, allowed in plan.sizes.items():
        if name in sizes and sizes[name] not in allowed:
            options = " or ".join(str(one) for one in sorted(allowed))
            _refuse(where, f"has {name} = {sizes[name]} at {module or 'its tensors'}, and its configuration {options}")
    if problem := plan.relation(sizes):
        _refuse(where, f"at {module or 'its tensors'}: {problem}")


def _need(plan: Plan, form: Form, module: str, sizes: Sizes) -> Need:
    path = module.partition(".units.")[0].removesuffix(".base_layer") or next(iter(form.must))
    if plan.sides is not None and not form.reads and not form.gives:
        return Need(layer_of(path), path, *plan.sides(path, sizes))
    return Need(layer_of(path), path, _value(form.reads, sizes), _value(form.gives, sizes))


def _value(term: str, sizes: Sizes) -> int | None:
    """The sum of the numbers that names stand for, if all of them are known."""
    found = [sizes.get(name) for name in term.split("+")] if term else []
    return sum(size for size in found if size is not None) if found and None not in found else None


def _at(module: str, leaf: str) -> str:
    return repr(f"{module}.{leaf}" if module else leaf)


def _refuse(where: str, why: str) -> NoReturn:
    raise _refused(where, why)


def _refused(where: str, why: str) -> UploadRefusedError:
    return UploadRefusedError(f"{where} {why}. Save the adapter again, and upload all of it.")


def whole(config: Mapping[str, Any], name: str, default: int) -> int:
    """A whole number above 0 of a configuration.

    Raises:
        ValueError: for anything else.
    """
    value = config.get(name)
    value = default if value is None else value
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} must be whole and above 0, and is {value!r}")
    return value
