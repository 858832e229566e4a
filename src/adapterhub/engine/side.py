"""A network beside the base: it reads what layers read, and its own state goes from layer to layer within a call."""

from collections import Counter
from collections.abc import Mapping
from typing import ClassVar, cast

import torch
from torch import Tensor

from adapterhub.composition import Composition, Split
from adapterhub.engine.program import Call, Program, Read, Step
from adapterhub.errors import CompositionError
from adapterhub.methods.ladder import LastRung, Rung


class SideStep(Step):
    """A rung of an adapter's ladder: the last one changes the state of the base, all others that of the ladder."""

    row_by_row: ClassVar[bool] = False  # it looks up its own state by its adapter

    def __call__(self, state: Tensor, read: Read, call: Call) -> Tensor:
        part = cast(Rung, self.part)
        if call.carried is None or call.offset:
            raise CompositionError(
                f"adapter {self.adapter!r} is a ladder, which needs all of a text in one call of the whole model: "
                "generate with use_cache=False"
            )
        side = part(read[0], call.carried.pop(self.adapter, None), read[1])
        if isinstance(part, LastRung):
            return part.output(state, side)
        call.carried[self.adapter] = side
        return state


def check(setup: Composition, programs: Mapping[str, Program], prompts: bool) -> None:
    """Pass a setup whose ladders, if it has some, see whole texts and come to their end.

    Raises:
        CompositionError: for any other.
    """
    ladders = {step.adapter for program in programs.values() for step in program.parts()}
    if not ladders:
        return
    ending = {step.adapter for one in programs.values() for step in one.parts() if isinstance(step.part, LastRung)}
    counts = (Counter(step.adapter for step in program.parts()) for program in programs.values())
    twice = {name for count in counts for name in count if count[name] > 1}
    kinds = {type(block) for block in setup.walk()}
    problems = {
        "it is there more than once": twice,
        "the last layer, where it writes, is skipped": ladders - ending,
        "a Split gives it parts of a text": Split in kinds,
        "a prompt puts tokens into the text of which it does not know": prompts,
    }
    for problem, holds in problems.items():
        if holds:
            raise CompositionError(f"{setup!r} cannot run the ladder {', '.join(sorted(ladders))}: {problem}")


def text_of(hidden: Tensor, call: Call) -> Tensor:
    """What of ``hidden`` ``[batch, seq, hidden]`` is no padding, ``[batch, seq]``."""
    rows, length = hidden.shape[:2]
    mask = call.mask
    if mask is None or mask.shape[1] != length or rows % mask.shape[0]:
        return torch.ones(rows, length, dtype=torch.bool, device=hidden.device)
    return mask.to(hidden.device).bool().repeat(rows // mask.shape[0], 1)
