"""Where in its text every token of a batch stands."""

import torch
from torch import Tensor

from adapterhub.engine.program import Call


def positions_of(hidden: Tensor, call: Call, tower: str) -> Tensor:
    """Positions from the first and from the last token of the text, ``[batch, seq, 2]``; -1 for all others.

    Others are padding, and tokens that are generated: those after the prompt, and those before which some are in a
    cache. ``hidden`` ``[batch, seq, hidden]`` is what a layer of ``tower`` reads.
    """
    rows, length = hidden.shape[:2]
    encoder, decoder = tower.endswith("encoder"), tower.endswith("decoder")
    mask = call.decoder_mask if decoder else call.mask
    if not encoder and call.offset > 0:
        return hidden.new_full((rows, length, 2), -1, dtype=torch.long)
    real = torch.ones(rows, length, dtype=torch.bool, device=hidden.device)
    if mask is not None and mask.shape[1] >= length and rows % mask.shape[0] == 0:
        real = mask[:, :length].to(hidden.device).bool().repeat(rows // mask.shape[0], 1)
    if call.prompt is not None and not encoder:
        prompt = 1 - call.offset if decoder else call.prompt  # where a trained prompt is before the text, below 0
        real = real & (torch.arange(length, device=hidden.device) < prompt)
    first = real.cumsum(dim=1) - 1
    last = real.sum(dim=1, keepdim=True) - 1 - first
    return torch.where(real.unsqueeze(-1), torch.stack((first, last), dim=-1), -1)
