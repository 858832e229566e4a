"""Where tokens become vectors: their table, what the first layer reads, and the module that takes either of them."""

import inspect
import re
from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import nn
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING, PretrainedConfig, PreTrainedModel

from adapterhub.sites import probe
from adapterhub.sites.fused import still
from adapterhub.sites.layout import Embeddings, Layer
from adapterhub.sites.trace import Trace

_POSITIONS = re.compile(r"pos(?!t)|wpe", re.IGNORECASE)
_CROSS = {"encoder_hidden_states", "encoder_attention_mask"}


def embeddings(model: PreTrainedModel, trace: Trace, layers: Iterable[Layer]) -> Embeddings | None:
    """Where the tokens that a model reads first become vectors."""
    return _before(model, trace, model, layers)


def decoder_embeddings(
    model: PreTrainedModel, trace: Trace, layers: Iterable[Layer], first: Embeddings | None
) -> Embeddings | None:
    """Where those of a decoder do, after an encoder that reads tokens too: the ``first``."""
    encoder = None if first is None or first.reader is None else model.get_submodule(first.reader)
    decoder = None if encoder is None else decoder_after(model, encoder)
    if decoder is None:
        return None
    start = next(path for path, module in model.named_modules() if module is decoder)
    return _before(model, trace, decoder, [layer for layer in layers if layer.path.startswith(f"{start}.")])


def decoder_after(model: PreTrainedModel, reader: nn.Module) -> PreTrainedModel | None:
    """The module that reads what ``reader`` gives for every token, if that is an encoder before a decoder."""
    if not model.config.is_encoder_decoder:
        return None
    for module in model.modules():
        apart = isinstance(module, PreTrainedModel) and reader not in set(module.modules())
        if apart and inspect.signature(module.forward).parameters.keys() >= _CROSS:
            return cast(PreTrainedModel, module)
    return None


def _before(model: PreTrainedModel, trace: Trace, reads: PreTrainedModel, layers: Iterable[Layer]) -> Embeddings | None:
    """Before the first layer after the embedding of tokens, or after the module around it where widths differ."""
    try:
        table = reads.get_input_embeddings()
    except (NotImplementedError, AttributeError):
        return None
    path = next((path for path, module in model.named_modules() if module is table), None)
    if path is None or not isinstance(table, nn.Embedding):
        return None
    width = table.embedding_dim
    called = trace.first_calls.get(path)
    calls = [trace.first_calls[layer.path] for layer in layers]
    first = next((call for call in calls if called is None or call.start > called.end), None)
    reader = None if first is None else _reader(model, first.path)
    once = first is not None and sum(call.path == first.path for call in trace.calls) == 1
    if first is not None and once and first.input_width == width:
        return Embeddings(path, first.path, True, width, reader, _positions(model, reader, path))
    around = trace.first_calls.get(path.rpartition(".")[0])
    if around is None or around.width != width:
        return None
    return Embeddings(path, around.path, False, width, reader, _positions(model, reader, path))


def embeds_alike(model: PreTrainedModel, table: Any, run: Callable[[dict[str, Any]], Any]) -> bool:
    """Whether ``run``, of arguments, gives the same for tokens, and for what ``table`` maps them to in their place.

    A module does not that looks at tokens for something else too, or takes for embeddings what is more than that.
    """
    start = table.num_embeddings // 2
    ids = torch.arange(start, min(start + probe.TOKENS, table.num_embeddings), device=table.weight.device).unsqueeze(0)
    rest = {"attention_mask": torch.ones_like(ids), "return_dict": True}
    with still(model), torch.no_grad():
        wanted = run({"input_ids": ids, **rest})[0]
        found = run({"inputs_embeds": table(ids), **rest})[0]
    return torch.allclose(found, wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max()))


def is_decoder(config: PretrainedConfig) -> bool:
    """Whether a text model sees, at each token, those before it alone."""
    writes = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING and type(config) not in MODEL_FOR_MASKED_LM_MAPPING
    return writes or bool(getattr(config, "is_decoder", False))


def _reader(model: PreTrainedModel, layer: str) -> str | None:
    """The innermost module around a layer that takes tokens, or something embedded in their place."""
    path = layer
    while path:
        path = path.rpartition(".")[0]
        module = model.get_submodule(path)
        if isinstance(module, PreTrainedModel):
            named = inspect.signature(module.forward).parameters
            if {"input_ids", "inputs_embeds"} <= named.keys():
                whole = "decoder_input_ids" in named or named["input_ids"].default is inspect.Parameter.empty
                return None if whole else path
    return None


def _positions(model: PreTrainedModel, reader: str | None, table: str) -> str | None:
    """What gives the reader absolute positions outside of its layers: a table of them, or else what computes them."""
    if reader is None:
        return None
    inside = [
        (path, module)
        for path, module in model.get_submodule(reader).named_modules(prefix=reader)
        if _POSITIONS.search(path.rpartition(".")[2]) and not re.search(r"\.\d+\.", path) and path != table
    ]
    inside.sort(key=lambda one: not isinstance(one[1], nn.Embedding))
    return next((path for path, _ in inside), None)
