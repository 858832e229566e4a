"""A plan: a composition compiled for one model, so that a forward pass only looks up what to run where."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from adapterhub.composition import (
    Average,
    BatchSplit,
    Composition,
    Expression,
    Fuse,
    MultiTask,
    Parallel,
    Rows,
    Split,
    Stack,
    channels_of,
)
from adapterhub.engine import extra, position_bias, prompt, side
from adapterhub.engine.adapter import EMBEDDINGS, Adapter, held_by, layer_site, prefix_site, prompt_sites, side_site
from adapterhub.engine.bank import Bank
from adapterhub.engine.divided import ByPosition, ByTask, Channels, Routed
from adapterhub.engine.experts import ExpertStep
from adapterhub.engine.fusion import Fusion
from adapterhub.engine.named import NamedModules
from adapterhub.engine.prefix import moves
from adapterhub.engine.program import (
    Chain,
    Fused,
    Mean,
    NormStep,
    Program,
    Step,
    ThroughWeight,
    WeightChain,
)
from adapterhub.engine.side import SideStep
from adapterhub.errors import AdapterNotFoundError, CompositionError
from adapterhub.methods import Place, Weight
from adapterhub.sites import Sites

MakeStep = Callable[[str, nn.Module], Step]  # of the name of an adapter and its part at a site
Acting = Adapter | Bank


@dataclass(frozen=True, eq=False)
class WeightPrograms:
    """What runs at a module with weights: on what it reads, and on what each of its weights gives."""

    on_input: Program | None
    on_output: tuple[tuple[Weight, Program], ...]


@dataclass(frozen=True, eq=False)
class Plan:
    """What to run where: after each sublayer (by name), in place of a norm (by path), around a module with a weight.

    ``replacing`` are the sublayers (by name) with which the base model does not go on itself: their result stands for
    what it would add and normalise. ``prefixes`` are read by the attentions of sublayers (by their names); ``moved`` is
    one of those, if they move the positions of the text. ``experts`` run after the weights of experts (by the paths of
    their modules, and the names of their parameters).
    ``embeddings`` runs on what the first layer reads, and its inverse before output embeddings that are tied;
    ``layers`` on what layers give, and ``sides`` beside them (by their paths). ``prompts`` come among the tokens that
    are read (by the names of their places), some of those at ``prompts_apart`` where tokens are embedded already.

    ``acting`` are the names of all places where something is done.
    ``first_repeated`` is the first layer that gets the rows of a batch once for each channel of a Parallel, None where
    the inputs of the model have to be repeated already. ``branching`` is the name of its last sublayer, where adapters
    act after that alone: then all before runs once, unless the base model is in training.

    ``fusions`` are the names of those that run, ``channels`` and ``rows`` those of the setup; ``splits`` says whether
    it divides positions, ``reads_call`` whether a program asks about the call or the batch at all. ``banks`` are those
    of which a call says what slots it uses.
    """

    setup: Composition
    skip_layers: frozenset[int]
    sublayers: Mapping[str, Program]
    branching: str | None
    replacing: frozenset[str]
    prefixes: Mapping[str, Program]
    moved: Program | None
    norms: Mapping[str, Program]
    weights: Mapping[str, WeightPrograms]
    experts: Mapping[str, Mapping[str, Program]]
    embeddings: Program | None
    layers: Mapping[str, Program]
    sides: Mapping[str, Program]
    prompts: Mapping[str, Program]
    prompts_apart: frozenset[str]
    acting: frozenset[str]
    first_repeated: int | None
    fusions: tuple[str, ...]
    channels: int
    rows: int | None
    splits: bool
    reads_call: bool
    banks: tuple[Bank, ...]

    def repeated(self, sites: Sites) -> Iterator[tuple[str, int | None]]:
        """Where rows are repeated: paths of layers with their numbers, and of towers that run later."""
        if self.first_repeated is None:
            return
        layers = sites.layers[self.first_repeated :]
        yield from ((layer.path, layer.index) for layer in layers)
        for tower in {layer.tower for layer in layers} - {layers[0].tower}:
            yield sites.tower_path(tower), None

    def repeats(self, layer: int, training: bool) -> bool:
        """Whether a layer, which is in training or not, gets the rows of a batch once for each channel of a Parallel.

        What may be dropped in training of a sublayer's output, after the place of adapters, is the layer's own affair.
        """
        first = self.first_repeated
        if first is None or layer < first:
            return False
        return layer > first or self.branching is None or training


def compile_plan(
    setup: Composition,
    adapters: Mapping[str, Acting],
    fusions: "NamedModules[Fusion]",
    sites: Sites,
    places: Iterable[Place],
    skip_layers: Iterable[int] = (),
) -> Plan:
    """Compile ``setup``; no adapter acts in ``skip_layers`` (AdapterDrop, Rücklé et al. 2021).

    Raises:
        AdapterNotFoundError: if the setup names an adapter or a fusion that is not there.
        CompositionError: if two of its parts cannot act together at some place.
        ConfigError: if it names a bank of adapters that act on the weights of experts.
    """
    _check_known(setup, adapters, fusions)
    skipped = frozenset(skip_layers)
    compiler = _Compiler(setup, adapters, fusions)
    banks = tuple(bank for name in setup.names() if isinstance(bank := adapters[name], Bank))
    acting = [place for place in places if place.layer not in skipped]
    norms = {place.name: place.norm for place in acting if place.kind == "norm"}
    norm_sites = {norm.path: norm.name for norm in sites.norms}
    sublayers: dict[str, Program] = {}
    read: dict[str, Program] = {}
    for sublayer in sites.sublayers:
        if sublayer.layer not in skipped:
            norm = norm_sites.get(sublayer.norm or "")
            program = compiler.compile(sublayer.name, partial(_sublayer_step, adapters, norm, norms.get(norm or "")))
            if program is not None:
                sublayers[sublayer.name] = program
            if (prefix := compiler.compile(prefix_site(sublayer), Step)) is not None:
                extra.check(prefix, "prefixes")
                position_bias.check(prefix, sublayer, sites.model_class)
                read[sublayer.name] = prefix
    paths = {norm.name: norm.path for norm in sites.norms}
    own_norms = {paths[site]: program for site in norms if (program := compiler.compile(site, NormStep)) is not None}
    weights: dict[str, WeightPrograms] = {}
    experts: dict[str, dict[str, Program]] = {}
    for place in acting:
        if place.expert_weight is not None:
            program = compiler.compile(place.name, partial(_expert_step, place.expert_weight))
            if program is not None:
                experts.setdefault(held_by(place), {})[place.path.rpartition(".")[2]] = program
        if place.weight is not None:
            had = weights.get(place.path, WeightPrograms(None, ()))
            if (added := compiler.compile_weight(place.name, place.weight, had)) is not had:
                weights[place.path] = added
    layers = {
        layer.path: program
        for layer in sites.layers
        if layer.index not in skipped and (program := compiler.compile(layer_site(layer), Step)) is not None
    }
    sides = {
        layer.path: program
        for layer in sites.layers
        if layer.index not in skipped and (program := compiler.compile(side_site(layer), SideStep)) is not None
    }
    replacing = frozenset(name for name, program in sublayers.items() if not program.keeps_base_output)
    _check_replaced(sites, replacing)
    kinds = {type(block) for block in setup.walk()}
    prompts = {name: found for name in prompt_sites(sites) if (found := compiler.compile(name, Step)) is not None}
    for found in prompts.values():
        prompt.check(found, Split in kinds)
    side.check(setup, sides, bool(prompts))
    embeddings = compiler.compile(EMBEDDINGS, Step) if sites.embeddings is not None else None
    layer_of = {place.name: place.layer for place in acting}
    first_repeated = _first_repeated(setup, compiler.compiled, layer_of) if sites.batch_first else None
    alone = [site for site in compiler.compiled if first_repeated is not None and layer_of[site] == first_repeated]
    ends = {sublayer.name for sublayer in sites.sublayers if sublayer.ends_layer} - replacing
    return Plan(
        setup,
        skipped,
        sublayers,
        alone[0] if len(alone) == 1 and alone[0] in ends else None,
        replacing,
        read,
        _moved(setup, read),
        own_norms,
        weights,
        experts,
        embeddings,
        layers,
        sides,
        prompts,
        frozenset(name for name, found in prompts.items() if prompt.some_apart(found)),
        frozenset(compiler.compiled),
        first_repeated,
        tuple(dict.fromkeys(block.fusion for block in setup.walk() if isinstance(block, Fuse))),
        setup.channels,
        setup.rows,
        Split in kinds,
        bool(kinds - {Stack, Average, Composition}) or any((layers, sides, prompts, banks)),
        banks,
    )


def _moved(setup: Composition, read: Mapping[str, Program]) -> Program | None:
    """The prefixes of one attention, if they move positions.

    Raises:
        CompositionError: if they would do so in the channels of a Parallel, which have the same input.
    """
    program = next((one for one in read.values() if moves(one)), None)
    if program is not None and setup.channels > 1:
        raise CompositionError(
            f"prefixes of adapters {program.names()} with shift_positions move the positions of what the model reads, "
            "which the channels of a Parallel share: use BatchSplit or Rows"
        )
    return program


class _Compiler:
    """Makes the programs of one setup, site by site."""

    def __init__(self, setup: Composition, adapters: Mapping[str, Acting], fusions: "NamedModules[Fusion]") -> None:
        self.setup, self.adapters, self.fusions = setup, adapters, fusions
        self.compiled: dict[str, Program] = {}

    def compile(self, site: str, make: MakeStep) -> Program | None:
        """The program of the setup at a site, or None if no adapter of it acts there."""
        program = self._of(self.setup, site, make)
        if program is not None:
            self.compiled[site] = program
        return program

    def compile_weight(self, site: str, weight: Weight, had: WeightPrograms) -> WeightPrograms:
        """What ``had`` runs at a module, and what runs at one of its weights."""
        if not self._acting(self.setup, site):
            return had
        if self._all_on_input(self.setup, site):  # the weight is applied once, to what comes of its input
            program = self.compile(site, Step)
            chained = program if had.on_input is None or program is None else Chain((had.on_input, program))
            return WeightPrograms(chained, had.on_output)
        on_output = self._at_weight(self.setup, site, weight)
        if on_output is None:
            return had
        self.compiled[site] = on_output
        return WeightPrograms(had.on_input, (*had.on_output, (weight, on_output)))

    def _at_weight(self, expression: Expression | None, site: str, weight: Weight) -> Program | None:
        """A program on what a weight gives; whatever in it acts on the input alone is taken through the weight."""
        if expression is None or not self._acting(expression, site):
            return None
        if self._all_on_input(expression, site):
            program = self._of(expression, site, Step)
            return None if program is None else ThroughWeight(program, weight)
        if isinstance(expression, str):
            parts = self._acting(expression, site)
            return _in_turn([self._part_at_weight(expression, part, weight) for part in parts])
        found = tuple(self._at_weight(child, site, weight) for child in expression)
        here = tuple(program for program in found if program is not None)
        if isinstance(expression, Stack) and len(here) > 1 and any(map(_changes_input, here[:-1])):
            return WeightChain(here)
        return self._block(expression, site, found, here)

    def _acting(self, expression: Expression, site: str) -> list[nn.Module]:
        names = (expression,) if isinstance(expression, str) else expression.names()
        return [part for name in names for part in self.adapters[name].parts(site)]

    def _part_at_weight(self, name: str, part: nn.Module, weight: Weight) -> Program:
        if getattr(part, "on_input", False):
            return ThroughWeight(self._step(Step(name, part)), weight)
        return self._step(Step(name, part, (weight,)))

    def _step(self, step: Step) -> Step:
        found = self.adapters[step.adapter]
        return found.step(step) if isinstance(found, Bank) else step

    def _all_on_input(self, expression: Expression, site: str) -> bool:
        return all(getattr(part, "on_input", False) for part in self._acting(expression, site))

    def _of(self, expression: Expression | None, site: str, make: MakeStep) -> Program | None:
        if expression is None:
            return None
        if isinstance(expression, str):
            return _in_turn([self._step(make(expression, part)) for part in self.adapters[expression].parts(site)])
        found = tuple(self._of(child, site, make) for child in expression)
        here = tuple(program for program in found if program is not None)
        return self._block(expression, site, found, here) if here else None

    def _block(
        self, block: Composition, site: str, found: tuple[Program | None, ...], here: tuple[Program, ...]
    ) -> Program:
        match block:
            case Fuse():
                layer = self.fusions[block.fusion].at(site)
                if layer is None:
                    raise CompositionError(
                        f"the fusion {block.fusion!r} has no part at {site}, where one of its adapters acts: it was "
                        "added for adapters that act elsewhere, or what they do there cannot be fused"
                    )
                return Fused(here, Step(block.fusion, layer), block.fusion, site)
            case Average():
                weights = (weight for one, weight in zip(found, block.weights, strict=True) if one is not None)
                return Mean(here, tuple(weights))
            case Split():
                return ByPosition(found, block.splits)
            case MultiTask():
                return ByTask(found)
            case BatchSplit():
                return Routed(found, _ranges(block.batch_sizes))
            case Parallel():
                return Channels(found, _ranges(map(channels_of, block)))
            case Rows():
                return _by_row(block, found)
            case _:
                return here[0] if len(here) == 1 else Chain(here)


def _check_known(setup: Composition, adapters: Mapping[str, Acting], fusions: Iterable[str]) -> None:
    missing = sorted(name for name in setup.flatten() if name not in adapters)
    if missing:
        known = ", ".join(adapters) or "none"
        raise AdapterNotFoundError(f"no adapter named {', '.join(missing)} in this model; it holds: {known}")
    for block in setup.walk():
        if isinstance(block, Fuse) and block.fusion not in fusions:
            known = "; ".join(fusions) or "none"
            raise AdapterNotFoundError(
                f"no fusion named {block.fusion!r} in this model; it holds: {known}. Call "
                f"model.add_adapter_fusion({block!r}) first."
            )


def _check_replaced(sites: Sites, replacing: Iterable[str]) -> None:
    wrong = [sublayer.name for sublayer in sites.sublayers if sublayer.name in replacing and not sublayer.adds]
    if wrong:
        raise CompositionError(
            f"original_ln_after=False leaves out that the base model adds x, and at {wrong[0]} it adds none: it mixes "
            "the output into several residual streams"
        )


def _by_row(setup: Rows, programs: tuple[Program | None, ...]) -> Program:
    """Rows with the same composition run together."""
    rows: dict[Any, list[int]] = {}
    for row, child in enumerate(setup):
        rows.setdefault(child, []).append(row)
    return Routed(tuple(programs[own[0]] for own in rows.values()), tuple(map(tuple, rows.values())))


def _sublayer_step(
    adapters: Mapping[str, Acting], site: str | None, base: nn.Module | None, name: str, part: nn.Module
) -> Step:
    """A step after a sublayer; the norm that it knows is the adapter's own copy, if it has one.

    (The base model's by its ``forward``: hooks on the norm are for the base model's own use of it.)
    """
    own = () if site is None else adapters[name].parts(site)
    return Step(name, part, (own[-1] if own else None if base is None else base.forward,))


def _expert_step(weight: Weight, name: str, part: nn.Module) -> Step:
    return ExpertStep(name, part, (weight,))


def _first_repeated(
    setup: Composition, compiled: Mapping[str, Program], layers: Mapping[str, int | None]
) -> int | None:
    """The first layer in which an adapter of a Parallel acts; None if one acts outside of layers, or there is none."""
    inside = {name for block in setup.walk() if isinstance(block, Parallel) for name in block.flatten()}
    found = [layers[site] for site, program in compiled.items() if inside & {step.adapter for step in program.parts()}]
    known = [layer for layer in found if layer is not None]
    return min(known) if known and len(known) == len(found) else None


def _changes_input(program: Program) -> bool:
    return isinstance(program, ThroughWeight) or any(map(_changes_input, program.inner()))


def _in_turn(programs: list[Program]) -> Program | None:
    return None if not programs else programs[0] if len(programs) == 1 else Chain(tuple(programs))


def _ranges(sizes: Iterable[int]) -> tuple[tuple[int, ...], ...]:
    """Consecutive numbers from 0, ``sizes[0]`` of them, then ``sizes[1]``, and so on."""
    ranges: list[tuple[int, ...]] = []
    start = 0
    for size in sizes:
        ranges.append(tuple(range(start, start + size)))
        start += size
    return tuple(ranges)
