"""Sites found by watching a model run: no architecture is listed here.

The module tree says where the repeated blocks are; a recorded forward pass says what flows between their modules:
which value is the residual stream, which one each sublayer adds to it, and whether a layer norm follows the sum.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import partial

from torch import nn
from transformers import PreTrainedModel

from adapterhub.errors import SiteError
from adapterhub.sites import attention, probe
from adapterhub.sites.corrections import CORRECTIONS
from adapterhub.sites.embeddings import embeddings
from adapterhub.sites.layout import Attention, Layer, Norm, Projection, Sites, Sublayer, SublayerKind
from adapterhub.sites.trace import Call, Trace, record

_ATTENTION = re.compile(r"attention|attn", re.IGNORECASE)
_NORM = re.compile(r"norm", re.IGNORECASE)
_LINEAR = re.compile(r"linear|conv1d", re.IGNORECASE)
# Roles of the projections of attention, by the name of the module; the first pattern that matches wins.
_ATTENTION_ROLES = (
    ("other", r"pos"),
    ("qkv", r"qkv|c_attn|in_proj|query_key_value"),
    ("kv", r"(^|_)kv(_|$)|key_value"),
    ("q", r"(^|_)q(uery)?(_|$)"),
    ("k", r"(^|_)k(ey)?(_|$)"),
    ("v", r"(^|_)v(alue)?(_|$)"),
)
_GATE = re.compile(r"gate|wi_0|^w1$")
_BY_HAND = "Describe its sites by hand: adapterhub.init(model, sites=Sites(...))."


def discover(model: PreTrainedModel) -> Sites:
    """Find every site of ``model`` by running it once on the smallest input that it takes.

    Raises:
        SiteError: if the model has no repeated blocks with attention, or could not be run, or its blocks add
            nothing to a residual stream.
    """
    model_class = type(model).__name__
    blocks = list(_blocks(model))
    if not blocks:
        raise SiteError(
            f"{model_class} has no adapter sites: looked for a list of modules of which every one contains "
            f"attention, and found none. {_BY_HAND}"
        )
    with attention.watched(model) as attentions:
        trace = _run(model)
    ran = sorted((path for path in blocks if path in trace.first_calls), key=lambda p: trace.first_calls[p].start)
    layers = tuple(_layers(model, trace, ran, attentions))
    if not any(layer.sublayers for layer in layers):
        raise SiteError(
            f"{model_class} has no adapter sites: its blocks ({', '.join(ran[:3]) or 'none of which ran'}) add no "
            f"sublayer's output to a residual stream. {_BY_HAND}"
        )
    # What it ran on was one row of some tokens.
    turned = any(trace.first_calls[path].input_shape[:2] == (probe.TOKENS, 1) for path in ran)
    norms, found = tuple(_norms(model, trace, layers)), embeddings(model, trace, layers)
    return Sites(model_class, layers, norms, found, not turned)


def _run(model: PreTrainedModel) -> Trace:
    correct = CORRECTIONS.get(model.config.model_type, lambda kwargs: kwargs)
    problems = []
    for kwargs in probe.inputs(model.base_model):
        try:
            return record(model, partial(model.base_model.forward, **correct(kwargs)))
        except Exception as error:  # any model's code may run here
            problems.append(f"{', '.join(kwargs)}: {type(error).__name__}: {error}")
    tried = "; ".join(problems) or "no input of a known name"
    raise SiteError(f"{type(model).__name__} could not be run to find its sites. Tried {tried}. {_BY_HAND}")


def _blocks(model: nn.Module) -> Iterator[str]:
    """Paths of the elements of the innermost module lists of which every element contains attention."""
    lists = {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, (nn.ModuleList, nn.Sequential))
        and len(module)
        and all(_has_attention(element) for element in module)
    }
    for path, module in lists.items():
        if not any(other.startswith(path + ".") for other in lists):
            yield from (f"{path}.{name}" for name, _ in module.named_children())


def _has_attention(module: nn.Module) -> bool:
    return any(_ATTENTION.search(type(child).__name__) for child in module.modules() if child is not module)


def _layers(
    model: nn.Module, trace: Trace, paths: list[str], attentions: Mapping[str, tuple[int, int, int]]
) -> Iterator[Layer]:
    towers = _tower_names(path.rpartition(".")[0] for path in paths)
    counts: Counter[str] = Counter()
    for index, path in enumerate(paths):
        tower = towers[path.rpartition(".")[0]]
        name = f"{tower}.layers.{counts[tower]}".lstrip(".")
        counts[tower] += 1
        yield Layer(index, name, tower, path, tuple(_Block(model, trace, path, attentions).sublayers(name, index)))


def _tower_names(lists: Iterable[str]) -> dict[str, str]:
    """A short name for each list of blocks: what its path has and not all others have; ``""`` for a lone one."""
    parts = {path: [part for part in path.split(".")[:-1] if part != "model"] for path in lists}
    if len(parts) < 2:
        return dict.fromkeys(parts, "")
    shared = set.intersection(*(set(p) for p in parts.values()))
    names = {path: ".".join(part for part in p if part not in shared) for path, p in parts.items()}
    if len(set(names.values())) < len(names):  # several lists in one tower, as in hierarchical vision models
        names = {path: path.replace(".", "_") for path in parts}
    return names


class _Block:
    """Reads the sublayers of one block out of a trace (out of its first call, where it is called several times)."""

    def __init__(
        self, model: nn.Module, trace: Trace, path: str, attentions: Mapping[str, tuple[int, int, int]]
    ) -> None:
        self.model, self.trace, self.attention_shapes = model, trace, attentions
        self.call = trace.first_calls[path]
        self.calls = [call for call in trace.calls if self.call.start < call.start and call.end < self.call.end]
        self.times_called = Counter(call.path for call in self.calls)
        self.attentions = list(self._attentions())

    def sublayers(self, layer: str, index: int) -> Iterator[Sublayer]:
        """The sublayers in running order, named ``{layer}.{kind}``, and ``..._2`` where a kind comes again."""
        counts: Counter[str] = Counter()
        since = self.call.start
        for total in self._sums():
            terms = [self.trace.source(term) for term in self._flatten(total)]
            streams = {term: reader for term in terms if (reader := self._reader(term, total))}
            outputs = [term for term in terms if term not in streams and self._writers(term)]
            if len(streams) != 1:
                continue
            (reader,) = streams.values()
            for output in outputs:
                owner, writer = self._owner(output), self._writer(output)
                kind = self._kind(owner)
                counts[kind] += 1
                name = f"{layer}.{kind}" + (f"_{counts[kind]}" if counts[kind] > 1 else "")
                projections = tuple(self._projections(owner, since, writer.end))
                norm = self._post_norm(total)
                attends = self._attention(owner)
                yield Sublayer(name, kind, index, writer.width, reader.path, writer.path, norm, projections, attends)
            since = self.trace.born[total]

    def _sums(self) -> list[int]:
        """Sums made in this block, without those that are only a part of a larger one."""
        made = [v for v in self.trace.terms if self.call.start < self.trace.born[v] < self.call.end]
        parts = {self.trace.source(term) for value in made for term in self.trace.terms[value]}
        return [value for value in made if value not in parts or self._is_state(value)]

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
        """The first leaf module of the block that computes something from ``value`` before ``total`` is made."""
        for call in self.trace.readers.get(value, ()):
            if self._holds(call) and self._is_leaf(call) and call.end < self.trace.born[total]:
                return call
        return None

    def _writer(self, value: int) -> Call:
        """The last leaf module that hands on ``value`` and runs once, else the outermost module that does."""
        calls = self._writers(value)
        leaves = [call for call in calls if self._is_leaf(call) and self.times_called[call.path] == 1]
        return leaves[-1] if leaves else calls[-1]

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
        while value is not None and (calls := self._writers(value)):
            for path in self.attentions:
                if any(f"{call.path}.".startswith(path + ".") for call in calls):
                    return path
            value = next((call.input for call in calls if self._is_norm(call)), None)
        return None

    def _kind(self, owner: str | None) -> SublayerKind:
        if owner is None:
            return "feed_forward"
        return "cross_attention" if any(map(self._reads_outside, self._linears(owner))) else "attention"

    def _reads_outside(self, call: Call) -> bool:
        """Whether a module reads what was there before this block began and is not its input: an encoder's output."""
        before = call.input is not None and self.trace.born[call.input] < self.call.start
        return before and call.input != self.call.input

    def _linears(self, owner: str) -> list[Call]:
        return [call for call in self.calls if call.path.startswith(owner + ".") and self._is_linear(call)]

    def _attention(self, owner: str | None) -> Attention | None:
        """The one module in an attention sublayer that calls the attention function."""
        found = [path for path in self.attention_shapes if owner and f"{path}.".startswith(f"{owner}.")]
        return Attention(found[0], *self.attention_shapes[found[0]]) if len(found) == 1 else None

    def _projections(self, owner: str | None, since: int, until: int) -> Iterator[Projection]:
        if owner is not None:
            *calls, last = self._linears(owner)
            for call in calls:
                yield Projection(_attention_role(call.path.rpartition(".")[2]), call.path)
            yield Projection("o", last.path)
            return
        linears = [call for call in self.calls if since < call.start <= until and self._is_linear(call)]
        calls = [call for call in linears if not any(call.path.startswith(path + ".") for path in self.attentions)]
        for call in calls[:-1]:
            fused = call.width == 2 * calls[-1].input_width
            role = "gate_up" if fused else "gate" if _GATE.search(call.path.rpartition(".")[2]) else "up"
            yield Projection(role, call.path)
        yield from (Projection("down", call.path) for call in calls[-1:])

    def _attentions(self) -> Iterator[str]:
        """Outermost modules of the block that are attention by the name of their class."""
        found: list[str] = []
        for call in self.calls:
            module = self.model.get_submodule(call.path)
            inside = any(call.path.startswith(path + ".") for path in found)
            if _ATTENTION.search(type(module).__name__) and not is_norm(module) and not inside:
                found.append(call.path)
                yield call.path

    def _is_leaf(self, call: Call) -> bool:
        return not len(self.model.get_submodule(call.path)._modules)

    def _is_norm(self, call: Call) -> bool:
        return is_norm(self.model.get_submodule(call.path))

    def _is_linear(self, call: Call) -> bool:
        return self._is_leaf(call) and bool(_LINEAR.search(type(self.model.get_submodule(call.path)).__name__))


def is_norm(module: nn.Module) -> bool:
    """Whether a module is a norm, by the name of its class."""
    return _NORM.search(type(module).__name__) is not None and not len(module._modules)


def _attention_role(name: str) -> str:
    return next((role for role, pattern in _ATTENTION_ROLES if re.search(pattern, name.lower())), "other")


def _norms(model: nn.Module, trace: Trace, layers: Iterable[Layer]) -> Iterator[Norm]:
    """Every norm that ran, named by its layer and its order there."""
    counts: Counter[str] = Counter()
    for path in trace.first_calls:
        if not is_norm(model.get_submodule(path)):
            continue
        layer = next((layer for layer in layers if path.startswith(layer.path + ".")), None)
        prefix = f"{layer.name}.norms" if layer else "norms"
        yield Norm(f"{prefix}.{counts[prefix]}", path, layer.index if layer else None)
        counts[prefix] += 1
