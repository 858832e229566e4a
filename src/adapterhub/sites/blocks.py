"""Which modules of a model are its repeated blocks: the elements of one list, or of several lists side by side."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from torch import nn

from adapterhub.sites.trace import Call, Trace

ATTENTION = re.compile(r"(?i:attention|attn)|MLA$")
# What stands in the place of attention in other architectures.
MIXER = re.compile(
    rf"{ATTENTION.pattern}|(?i:mixer|mamba|ssm|recurrent|rwkv|delta_?net|lstm|lru|short_?conv|fourier|hyena)"
)


@dataclass(frozen=True)
class Block:
    """A repeated block: the path of its module; or of several, of which each stands in a list of its own."""

    paths: tuple[str, ...]

    def holds(self, path: str) -> bool:
        """Whether a module is part of it."""
        return any(f"{path}.".startswith(f"{own}.") for own in self.paths)


def repeated(model: nn.Module) -> Iterator[Block]:
    """The elements of the innermost lists of blocks; where there are none, those of lists side by side."""
    lists = {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, (nn.ModuleList, nn.Sequential)) and _is_stack(module)
    }
    for path, module in lists.items():
        if not any(other.startswith(path + ".") for other in lists):
            yield from (Block((f"{path}.{name}",)) for name, _ in module.named_children())
    if not lists:
        for path, module in model.named_modules():
            yield from _side_by_side(f"{path}.".lstrip("."), module)


def _is_stack(modules: nn.ModuleList | nn.Sequential) -> bool:
    """Whether a list is one of blocks: every one contains attention or a mixer, or one does and all are of a kind."""
    mixing = [_has_mixer(module) for module in modules]
    return bool(mixing) and (all(mixing) or (any(mixing) and len({type(module) for module in modules}) == 1))


def _has_mixer(module: nn.Module) -> bool:
    return any(MIXER.search(type(child).__name__) for child in module.modules() if child is not module)


def _side_by_side(prefix: str, module: nn.Module) -> Iterator[Block]:
    """Blocks of ``attentions[i]``, ``ffns[i]`` and so on: lists of one length, one of which is of attentions alone."""
    lists = {name: one for name, one in module.named_children() if isinstance(one, nn.ModuleList)}
    mixing = [one for one in lists.values() if len(one) and all(MIXER.search(type(part).__name__) for part in one)]
    for length in dict.fromkeys(map(len, mixing)):
        names = [name for name, one in lists.items() if len(one) == length]
        if len(names) > 1:
            yield from (Block(tuple(f"{prefix}{name}.{index}" for name in names)) for index in range(length))


def spans(blocks: Iterable[Block], trace: Trace) -> list[tuple[Block, Call]]:
    """The blocks that ran, in running order, each with its first call.

    Where a block is of several modules, that is from the first of them to the next block, as if its last one were all.
    """
    called = ((block, _call(block, trace)) for block in blocks)
    found = sorted(((block, call) for block, call in called if call is not None), key=lambda one: one[1].start)
    ends = [*(call.start + 1 for _, call in found[1:]), max(trace.born.values(), default=0) + 1]
    return [
        (block, call if len(block.paths) == 1 else replace(call, end=end))
        for (block, call), end in zip(found, ends, strict=False)
    ]


def _call(block: Block, trace: Trace) -> Call | None:
    called = [trace.first_calls[path] for path in block.paths if path in trace.first_calls]
    if len(block.paths) == 1 or not called:
        return next(iter(called), None)
    called.sort(key=lambda call: call.start)
    first, last = called[0], called[-1]
    return replace(
        last,
        start=first.start - 1,
        input=first.input,
        input_width=first.input_width,
        input_shape=first.input_shape,
        positional=False,
    )


def tower_names(lists: Iterable[str]) -> dict[str, str]:
    """A short name for each list of blocks: what its path has and not all others have; ``""`` for a lone one."""
    parts = {path: [part for part in path.split(".")[:-1] if part != "model"] for path in lists}
    if len(parts) < 2:
        return dict.fromkeys(parts, "")
    shared = set.intersection(*(set(p) for p in parts.values()))
    names = {path: ".".join(part for part in p if part not in shared) for path, p in parts.items()}
    if len(set(names.values())) < len(names):  # several lists in one tower, as in hierarchical vision models
        names = {path: path.replace(".", "_") for path in parts}
    return names
