"""The tree of a sentence: for each word its head and their relation, by biaffine attention.

Dozat & Manning 2017 (section 3.1), over word vectors as in Glavaš & Vulić 2021 (section 3.1): a word is the mean of its
tokens, and the first token of the input stands for the root.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.utils import ModelOutput

from adapterhub.errors import HeadError
from adapterhub.heads.base import BaseInfo, Head, HeadContext, LabelledConfig, register_head

IGNORED = -100  # a label that does not count


@dataclass(frozen=True)
class DependencyParsingConfig(LabelledConfig):
    """The classes are the relations; ``dropout`` before the two biaffine maps is by default the base model's."""

    dropout: float | None = None


@dataclass
class DependencyParsingOutput(ModelOutput):
    """``rel_preds`` ``[batch, seq, seq + 1, relations]`` and ``arc_preds`` ``[batch, seq, seq + 1]``.

    Row i is word i, column 0 the root and column j + 1 word j; what is beyond the words of a sentence is padding,
    and cannot be a head: its columns of ``arc_preds`` are -inf.
    """

    loss: Tensor | None = None
    rel_preds: Tensor | None = None
    arc_preds: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


class Biaffine(nn.Module):
    """``[x; 1]ᵀ W y`` for every pair of ``x`` and ``y``; with ``bias_y``, ``[y; 1]`` in the place of ``y``."""

    def __init__(self, width: int, outputs: int, bias_y: bool) -> None:
        super().__init__()
        self.bias_y = bias_y
        self.weight = nn.Parameter(torch.zeros(outputs, width + 1, width + bias_y))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """``[batch, n, width]`` and ``[batch, m, width]`` to ``[batch, n, m, outputs]``."""
        x = torch.cat((x, torch.ones_like(x[..., :1])), dim=-1)
        if self.bias_y:
            y = torch.cat((y, torch.ones_like(y[..., :1])), dim=-1)
        return torch.einsum("bni,oij,bmj->bnmo", x, self.weight, y)


@register_head("dependency_parsing")
class DependencyParsingHead(Head):
    """Cross-entropy of heads and of relations to them: ``labels_arcs`` and ``labels_rels`` ``[batch, seq]``.

    Entry i of the labels is of word i: the number of its head (0 for the root, else that of a word plus 1), and of its
    relation. ``word_starts`` ``[batch, seq]`` are the positions of the first tokens of all words in order, then that
    after the last word; what follows, and is not larger, is padding. Labels of padding, and those of -100, do not
    count.
    """

    config_class = DependencyParsingConfig
    full_precision = True
    arguments = ("labels_arcs", "labels_rels", "word_starts")
    config: DependencyParsingConfig

    def __init__(self, config: DependencyParsingConfig, base: BaseInfo) -> None:
        super().__init__(config, base)
        self.dropout = nn.Dropout(base.dropout if config.dropout is None else config.dropout)
        self.biaffine_arcs = Biaffine(base.width, 1, bias_y=False)
        self.biaffine_rels = Biaffine(base.width, config.count, bias_y=True)

    def forward(self, context: HeadContext) -> ModelOutput:
        """See ``DependencyParsingOutput``.

        Raises:
            HeadError: without ``word_starts``.
        """
        starts = context.targets.get("word_starts")
        if starts is None:
            raise HeadError("a dependency-parsing head needs word_starts: where in the input each word begins")
        hidden = self.dropout(context.hidden.to(self.biaffine_arcs.weight.dtype))
        words, there = merged_words(hidden, starts.to(hidden.device))
        heads = torch.cat((hidden[:, :1], words), dim=1)
        outside = F.pad(~there, (1, 0), value=False).unsqueeze(1)
        arcs = self.biaffine_arcs(words, heads).squeeze(-1).masked_fill(outside, -torch.inf)
        relations = self.biaffine_rels(words, heads)
        loss = self.loss(arcs, relations, there, context)
        return context.answer(DependencyParsingOutput, loss=loss, rel_preds=relations, arc_preds=arcs)

    def loss(self, arcs: Tensor, relations: Tensor, there: Tensor, context: HeadContext) -> Tensor | None:
        """The sum of the two means over words; None without labels."""
        gold = [context.targets.get(name) for name in ("labels_arcs", "labels_rels")]
        if gold[0] is None or gold[1] is None:
            return None
        heads, labels = (one.to(arcs.device).masked_fill(~there, IGNORED) for one in gold if one is not None)
        counts = (heads != IGNORED) & (labels != IGNORED)
        chosen = relations[counts].gather(1, heads[counts].view(-1, 1, 1).expand(-1, 1, relations.shape[-1])).squeeze(1)
        return F.cross_entropy(arcs[counts], heads[counts]) + F.cross_entropy(chosen, labels[counts])


def merged_words(hidden: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
    """Means over the tokens of each word, ``[batch, seq, width]``, and which of them are words, ``[batch, seq]``."""
    length = hidden.shape[1]
    starts = F.pad(starts, (0, max(0, length + 1 - starts.shape[1])), value=0)[:, : length + 1]
    begin, end = starts[:, :-1], starts[:, 1:]
    there = (end > begin).long().cumprod(dim=1).bool()
    positions = torch.arange(length, device=hidden.device)
    inside = (positions >= begin.unsqueeze(-1)) & (positions < end.unsqueeze(-1)) & there.unsqueeze(-1)
    share = inside.to(hidden.dtype) / inside.sum(-1, keepdim=True).clamp(min=1)
    return share @ hidden, there
