"""Adapters that leave out the base model's residual and norm, beside rows, positions or slots without any adapter."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from adapterhub.engine.bank import BankStep
from adapterhub.engine.divided import ByPosition, ByTask, Routed
from adapterhub.engine.program import Call, Chain, Program, Read


@dataclass(frozen=True, eq=False)
class BaseOutput(Program):
    """What the base model makes of a sublayer's output itself: it adds the residual stream, and applies its norm."""

    norm: Callable[[Tensor], Tensor] | None

    def __call__(self, state: Tensor, read: Read, call: Call) -> Tensor:
        (residual,) = read
        return state + residual if self.norm is None else self.norm(state + residual)

    @property
    def keeps_base_output(self) -> bool:
        return False


def completed(program: Program, base: BaseOutput) -> Program:
    """``program``, whose result stands for that of ``base``, with this wherever no adapter acts."""
    match program:
        case Chain():
            *before, last = program.children
            done = any(not child.keeps_base_output for child in before)
            return program if done else replace(program, children=(*before, completed(last, base)))
        case Routed() | ByTask() | ByPosition():
            children = tuple(base if child is None else completed(child, base) for child in program.children)
            return replace(program, children=children)
        case BankStep():
            return replace(program, idle=base)
        case _:
            return program
