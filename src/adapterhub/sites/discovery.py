"""Sites found by watching a model run: no architecture is listed here.

The module tree says where the repeated blocks are; a recorded forward pass says what flows between their modules:
which value is the residual stream, which one each sublayer adds to it, and whether a layer norm follows the sum.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from math import prod

from torch import nn
from transformers import PreTrainedModel

from adapterhub.errors import SiteError
from adapterhub.sites import attention, probe
from adapterhub.sites.blocks import ATTENTION, MIXER, Block, repeated, spans, tower_names
from adapterhub.sites.embeddings import decoder_embeddings, embeddings
from adapterhub.sites.layout import Attention, Layer, Norm, Projection, Sites, Sublayer, SublayerKind
from adapterhub.sites.roles import attention_role, feed_forward
from adapterhub.sites.trace import Call, Trace, record

_NORM = re.compile(r"norm", re.IGNORECASE)
_LINEAR = re.compile(r"linear|conv1d", re.IGNORECASE)


def discover(model: PreTrainedModel) -> Sites:
    """Find every site of ``model`` by running it once on the smallest input that it takes.

    Raises:
        SiteError: if the model has no repeated blocks with attention, or could not be run, or its blocks add
            nothing to a residual stream.
    """
    model_class = type(model).__name__
    blocks = list(repeated(model))
    if not blocks:
        raise SiteError(
            f"{model_class} has no adapter sites: looked for a list of modules of which every one contains "
            f"attention, or a mixer in its place, and found none. {probe.BY_HAND}"
        )
    with attention.watched(model) as attentions:
        trace = probe.run(model, lambda base, kwargs: record(model, partial(base.forward, **kwargs)))
    ran = spans(blocks, trace)
    layers = tuple(_layers(model, trace, ran, attentions))
    if not any(layer.sublayers for layer in layers):
        paths = ", ".join(layer.path for layer in layers[:3])
        raise SiteError(
            f"{model_class} has no adapter sites: its blocks ({paths or 'none of which ran'}) add no sublayer's output "
            f"to a residual stream. {probe.BY_HAND}"
        )
    # What it ran on was one row of some tokens.
    turned = any(call.input_shape[:2] == (probe.TOKENS, 1) for _, call in ran)
    blocks = [block for block, _ in ran]
    norms = tuple(_norms(model, trace, zip(layers, blocks, strict=True)))
    modules = [layer for layer, block in zip(layers, blocks, strict=True) if len(block.paths) == 1]
    first = embeddings(model, trace, modules)
    after = decoder_embeddings(model, trace, modules, first)
    return Sites(model_class, layers, norms, first, not turned, after)


def _layers(
    model: nn.Module, trace: Trace, ran: list[tuple[Block, Call]], attentions: Mapping[str, attention.Watched]
) -> Iterator[Layer]:
    towers = tower_names(call.path.rpartition(".")[0] for _, call in ran)
    counts: Counter[str] = Counter()
    for index, (block, call) in enumerate(ran):
        tower = towers[call.path.rpartition(".")[0]]
        name = f"{tower}.layers.{counts[tower]}".lstrip(".")
        counts[tower] += 1
        sublayers = tuple(_Block(model, trace, call, attentions).sublayers(name, index))
        # What is added after the last module of several, no module gives; nor are several streams, or pixels, tokens.
        gives = len(block.paths) == 1 or any(sublayer.norm == call.path for sublayer in sublayers)
        width = call.output_shape[-1] if gives and 0 < len(call.output_shape) < 4 else 0
        yield Layer(index, name, tower, call.path, width, sublayers)


@dataclass(frozen=True)
class _Found:
    """A sublayer: the attention that it is, who reads x and who writes h, when it begins, and the norm after it.

    ``ends`` says whether the block gives their sum, or the norm of it.
    """

    owner: str | None
    reader: Call
    writer: Call
    since: int
    norm: str | None
    adds: bool = True
    ends: bool = False


class _Block:
    """Reads the sublayers of one block out of a trace (out of its first call, where it is called several times)."""

    def __init__(self, model: nn.Module, trace: Trace, call: Call, attentions: Mapping[str, attention.Watched]) -> None:
        self.model, self.trace, self.call, self.attention_shapes = model, trace, call, attentions
        self.calls = [call for call in trace.calls if self.call.start < call.start and call.end < self.call.end]
        self.times_called = Counter(call.path for call in self.calls)
        names = [type(model.get_submodule(path)).__name__ for path in self.times_called]
        self.attends = any(ATTENTION.search(name) for name in names)
        self.attentions = list(self._attentions())

    def sublayers(self, layer: str, index: int) -> Iterator[Sublayer]:
        """The sublayers in running order, named ``{layer}.{kind}``, and ``..._2`` where a kind comes again."""
        counts: Counter[str] = Counter()
        taken: set[str] = set()
        for one in self._found():
            kind = self._kind(one.owner)
            counts[kind] += 1
            made = self._projections(one.owner, one.since, one.writer)
            projections = {projection.path: projection for projection in made if projection.path not in taken}
            taken |= projections.keys()
            yield Sublayer(
                f"{layer}.{kind}" + (f"_{counts[kind]}" if counts[kind] > 1 else ""),
                kind,
                index,
                one.writer.width,
                one.reader.path,
                one.writer.path,
                one.norm,
                tuple(projections.values()),
                self._attention(one.owner),
                one.adds,
                one.ends,
            )

    def _found(self) -> list["_Found"]:
        """In running order; of one that runs several times, the first time."""
        added = list(self._added())
        mixed = list(self._mixed())
        if added:  # a norm whose output goes on as the stream itself gives x, and does not read it
            streams = {self.trace.source(term) for total in self.trace.terms.values() for term in total}
            mixed = [one for one in mixed if one.reader.output not in streams]
        apart = [one for one in mixed if not any(_overlap(one, other) for other in added)]
        found = {one.writer.path: one for one in reversed(added + apart)}
        return sorted(found.values(), key=lambda one: one.writer.end)

    def _added(self) -> Iterator["_Found"]:
        """Sublayers whose output is added to the residual stream."""
        since, sums = self.call.start, self._sums()
        carried = {term for total in sums for term in map(self.trace.source, self._flatten(total))}
        for total in sums:
            terms = [self.trace.source(term) for term in self._flatten(total)]
            streams = self._streams(terms, total)
            reader = next(iter(streams.values())) if len(streams) == 1 else None
            outputs = [] if reader is None else list(self._outputs(terms, streams, reader))
            for output, reads, writes in outputs:
                owner = self._owner(output)
                if owner is None and len(outputs) == 1:
                    owner = self._between(since, writes)
                norm = self._post_norm(total)
                yield _Found(owner, reads, writes, since, norm, ends=self._ends(total, reads, writes, norm))
            norms = [call.output for call in self.trace.readers.get(total, ()) if self._is_norm(call)]
            if outputs or carried & {total, *norms}:
                since = self.trace.born[total]

    def _ends(self, total: int, reads: Call, writes: Call, norm: str | None) -> bool:
        """Whether the block, one module, gives a sum of x and h as they are, or the norm of it."""
        if not writes.path.startswith(f"{self.call.path}."):
            return False
        given = {total, *(call.output for call in self.trace.readers.get(total, ()) if call.path == norm)}
        plain = sorted(self.trace.terms[total]) == sorted(filter(None, (reads.input, writes.output)))
        return plain and (given - {total} if norm else given) == {self.call.output}

    def _streams(self, terms: list[int], total: int) -> dict[int, Call]:
        """Of the terms of a sum those that a module reads; else what the block does, if attention adds to it."""
        streams = {term: reader for term in terms if (reader := self._reader(term, total))}
        given = self.call.input
        if (
            not streams
            and self.call.positional
            and given is not None
            and given in terms
            and any(self._owner(t) for t in terms if t != given)
        ):
            return {given: self.call}
        return streams

    def _outputs(
        self, terms: Iterable[int], streams: Mapping[int, Call], reader: Call
    ) -> Iterator[tuple[int, Call, Call]]:
        """The terms of a sum that modules add to the residual stream, with who reads that and who writes them."""
        for term in terms:
            if term not in streams and (writer := self._writer(term, reader)) is not None:
                yield term, reader, writer

    def _mixed(self) -> Iterator["_Found"]:
        """Sublayers whose output is mixed into several residual streams: modules that read what a norm gives.

        For x stands what the norm reads, the streams in one; or what another module gives that makes one of them.
        """
        until = self.call.start
        for call in self.calls:
            reader = None if self._is_leaf(call) or call.start < until else self._reads_streams(call)
            if reader is not None:
                until = call.end
                owner = next((path for path in self.attentions if f"{call.path}.".startswith(f"{path}.")), None)
                yield _Found(owner, reader, call, reader.start, None, adds=False)

    def _reads_streams(self, call: Call) -> Call | None:
        """The reader of x, of a module that reads several streams in one and gives its like: its norm, or itself."""
        made = self._writers(call.input) if call.input is not None else []
        norm = next((one for one in reversed(made) if self._is_norm(one)), None)
        if norm is not None:
            return norm if call.output_shape == norm.input_shape else None
        mixed = any(one.input_width > one.width and one.input_width % one.width == 0 for one in made if one.width)
        return call if mixed and call.positional and call.output_shape == call.input_shape else None

    def _sums(self) -> list[int]:
        """Sums made in this block, without those that are only a part of a larger one, or of what a larger one adds."""
        made = [v for v in self.trace.terms if self.call.start < self.trace.born[v] < self.call.end]
        parts = {self.trace.source(term) for value in made for term in self.trace.terms[value]}
        sums = [value for value in made if value not in parts or self._is_state(value)]
        added = [call for total in sums for call in self._calls_added(total)]
        return [v for v in sums if not any(call.start < self.trace.born[v] < call.end for call in added)]

    def _calls_added(self, total: int) -> Iterator[Call]:
        """The calls that made what a sum adds to the residual stream."""
        for term in map(self.trace.source, self._flatten(total)):
            if not self._reader(term, total):
                for value in self._back(term):
                    yield from self._writers(value)

    def _is_state(self, value: int) -> bool:
        """Whether a sum is a state of the residual stream (something reads it), not a part of a larger sum."""
        return value in self.trace.readers or value == self.call.output

    def _flatten(self, total: int) -> Iterator[int]:
        """Terms of a sum, those of its partial sums included: ``(attention + feed_forward) + x``."""
        for term in self.trace.terms[total]:
            source = self.trace.source(term)
            partial = source in self.trace.terms and source not in self.trace.writers
            if partial and not self._is_state(source):
                yield from self._flatten(source)
            else:
                yield term

    def _reader(self, value: int, total: int) -> Call | None:
        """The first module of the block that computes something from ``value`` before ``total``; a leaf if one does."""
        readers = self.trace.readers.get(value, ())
        found = [call for call in readers if self._holds(call) and call.end < self.trace.born[total]]
        leaves = [call for call in found if self._is_leaf(call)]
        return next(iter([*leaves, *(call for call in found if call.positional)]), None)

    def _writer(self, value: int, reader: Call) -> Call | None:
        """The last leaf module that hands on ``value``, else the outermost one; it may be rescaled since.

        It runs once, or in turn with ``reader``, ends after that starts, and gives as many rows as that reads, of the
        residual stream.
        """
        for earlier in self._back(value):
            calls = [
                call
                for call in self._writers(earlier)
                if self._in_turn(reader.path, call.path)
                and call.output_shape[-1:] == reader.input_shape[-1:]
                and prod(call.output_shape) == prod(reader.input_shape)
                and call.end > reader.start
            ]
            leaves = [call for call in calls if self._is_leaf(call)]
            if calls:
                return (leaves or calls)[-1]
        return None

    def _in_turn(self, reader: str, writer: str) -> bool:
        """Whether a module runs once, or once after each time that another one does."""
        ran = [call.path for call in self.calls if call.path in (reader, writer)]
        return ran.count(writer) == 1 or ran == [reader, writer] * (len(ran) // 2)

    def _back(self, value: int) -> Iterator[int]:
        """A value, and those that it was rescaled or reshaped from in this block."""
        yield value
        while value in self.trace.origin and self.trace.born[self.trace.origin[value]] > self.call.start:
            value = self.trace.origin[value]
            yield value

    def _writers(self, value: int) -> list[Call]:
        return [call for call in self.trace.writers.get(value, ()) if self._holds(call)]

    def _holds(self, call: Call) -> bool:
        return self.call.start < call.start and call.end < self.call.end

    def _post_norm(self, total: int) -> str | None:
        """The norm that reads a sum if nothing else does: then its output, not the sum, is the residual stream."""
        readers = [call for call in self.trace.readers.get(total, ()) if self._holds(call)]
        goes_on = total == self.call.output or any(total in terms for terms in self.trace.terms.values())
        return readers[0].path if not goes_on and len(readers) == 1 and self._is_norm(readers[0]) else None

    def _owner(self, value: int | None) -> str | None:
        """The attention module that ``value`` comes out of, looking back through norms; None for a feed-forward."""
        while value is not None:
            calls: list[Call] = []
            for earlier in self._back(value):
                calls += self._writers(earlier)
                for path in self.attentions:
                    if any(f"{call.path}.".startswith(path + ".") for call in calls):
                        return path
            value = next((call.input for call in calls if self._is_norm(call)), None)
            if value in self.trace.terms:  # the residual stream
                return None
        return None

    def _between(self, since: int, writer: Call) -> str | None:
        """The attention module that ran before ``writer`` and after the sum before; None if there is not one alone."""
        ran = [call.path for call in self.calls if since < call.start and call.end < writer.end]
        found = [path for path in self.attentions if path in ran]
        return found[0] if len(found) == 1 else None

    def _kind(self, owner: str | None) -> SublayerKind:
        if owner is None:
            return "feed_forward"
        queries, others = set(), set()
        for call in self._linears(owner):
            role = attention_role(call.path.rpartition(".")[2])
            if role == "q":
                queries.add(call.input)
            elif role != "other" and self._reads_outside(call):
                others.add(call.input)
        return "cross_attention" if others - queries == others != set() else "attention"

    def _reads_outside(self, call: Call) -> bool:
        """Whether a module reads what was there before this block began and is not its input: an encoder's output."""
        before = call.input is not None and self.trace.born[call.input] < self.call.start
        return before and call.input != self.call.input

    def _linears(self, owner: str) -> list[Call]:
        return [call for call in self.calls if call.path.startswith(owner + ".") and self._is_linear(call)]

    def _attention(self, owner: str | None) -> Attention | None:
        """The one module in an attention sublayer that calls the attention function, if it does so once."""
        found = [path for path in self.attention_shapes if owner and f"{path}.".startswith(f"{owner}.")]
        if len(found) != 1:
            return None
        heads, key_width, value_width, calls, first_biased = self.attention_shapes[found[0]]
        once = calls == sum(call.path == found[0] for call in self.trace.calls)
        # One that has a table of distances, but is given a bias, makes none of it.
        bias_at = first_biased if f"{first_biased}.relative_attention_bias" in self.trace.first_calls else None
        return Attention(found[0], heads, key_width, value_width, bias_at) if once else None

    def _projections(self, owner: str | None, since: int, writer: Call) -> Iterator[Projection]:
        if owner is not None:
            linears = self._linears(owner)
            for call in linears[:-1]:
                yield Projection(attention_role(call.path.rpartition(".")[2]) if self.attends else "other", call.path)
            yield from (Projection("o", call.path) for call in linears[-1:])
            return
        linears = [call for call in self.calls if since < call.start <= writer.end and self._is_linear(call)]
        calls = [call for call in linears if not any(call.path.startswith(path + ".") for path in self.attentions)]
        yield from feed_forward(calls, writer)

    def _attentions(self) -> Iterator[str]:
        """Outermost modules of the block that are attention by the name of their class."""
        found: list[str] = []
        for call in self.calls:
            module = self.model.get_submodule(call.path)
            inside = any(call.path.startswith(path + ".") for path in found)
            if self._mixes(module) and not inside:
                found.append(call.path)
                yield call.path

    def _mixes(self, module: nn.Module) -> bool:
        pattern = ATTENTION if self.attends else MIXER
        return bool(pattern.search(type(module).__name__)) and not is_norm(module)

    def _is_leaf(self, call: Call) -> bool:
        return not len(self.model.get_submodule(call.path)._modules)

    def _is_norm(self, call: Call) -> bool:
        return is_norm(self.model.get_submodule(call.path))

    def _is_linear(self, call: Call) -> bool:
        return self._is_leaf(call) and bool(_LINEAR.search(type(self.model.get_submodule(call.path)).__name__))


def is_norm(module: nn.Module) -> bool:
    """Whether a module is a norm, by the name of its class."""
    return _NORM.search(type(module).__name__) is not None and not len(module._modules)


def _overlap(some: _Found, other: _Found) -> bool:
    """Whether one of two sublayers runs while the other does."""
    return some.reader.start < other.writer.end and other.reader.start < some.writer.end


def _norms(model: nn.Module, trace: Trace, layers: Iterable[tuple[Layer, Block]]) -> Iterator[Norm]:
    """Every norm that ran, named by its layer and its order there."""
    blocks = list(layers)
    counts: Counter[str] = Counter()
    for path in trace.first_calls:
        if not is_norm(model.get_submodule(path)):
            continue
        layer = next((layer for layer, block in blocks if block.holds(path)), None)
        prefix = f"{layer.name}.norms" if layer else "norms"
        yield Norm(f"{prefix}.{counts[prefix]}", path, layer.index if layer else None)
        counts[prefix] += 1
