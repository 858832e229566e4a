"""The smallest inputs that make a model run, for discovery to watch."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, TypeVar

import torch
from transformers import PreTrainedModel

from adapterhub.errors import SiteError
from adapterhub.sites import samples
from adapterhub.sites.corrections import CORRECTIONS
from adapterhub.sites.samples import TOKENS, nested

__all__ = ["BY_HAND", "TOKENS", "inputs", "nested", "run"]

BY_HAND = "Describe its sites by hand: adapterhub.init(model, sites=Sites(...))."
_LIMIT = 64  # of inputs that are tried
_IDS = ("input_ids", "decoder_input_ids")
_Result = TypeVar("_Result")


def run(model: PreTrainedModel, attempt: Callable[[PreTrainedModel, dict[str, Any]], _Result]) -> _Result:
    """What ``attempt`` gives for the base of ``model`` and the first input of it on which it does not fail.

    Some models call a part of themselves their base; where that cannot be run alone, the whole is. Where that cannot be
    run either, for want of an image say, a tower that reads text is.

    Raises:
        SiteError: if it fails on all of them, with what was tried.
    """
    problems: dict[str, str] = {}
    for target in dict.fromkeys((model.base_model, model, *_text_towers(model))):
        for kwargs in islice(inputs(target), _LIMIT):
            try:
                return attempt(target, kwargs)
            except Exception as error:  # any model's code may run here
                problems.setdefault(f"{type(error).__name__}: {error}", ", ".join(kwargs) or "no input")
    tried = "; ".join(f"{names}: {problem}" for problem, names in problems.items()) or "no input of a known name"
    raise SiteError(f"{type(model).__name__} could not be run to find its sites. Tried {tried}. {BY_HAND}")


def _text_towers(model: PreTrainedModel) -> Iterator[PreTrainedModel]:
    for module in model.modules():
        if isinstance(module, PreTrainedModel) and "input_ids" in inspect.signature(module.forward).parameters:
            yield module


def inputs(model: PreTrainedModel) -> Iterator[dict[str, Any]]:
    """Candidate keyword arguments for ``model``, the most complete first.

    A model with several towers is offered the inputs of all of them, then those of its main input alone, then those of
    its text alone; each without and with an attention mask.
    """
    correct = CORRECTIONS.get(model.config.model_type, lambda model, given: given)
    accepted = inspect.signature(model.forward).parameters
    settings = {name: False for name in ("use_cache", "output_attentions") if name in accepted}
    for given in _choices(model, accepted):
        for masks in _masks(given, accepted):
            yield correct(model, given | settings | masks)


def _choices(model: PreTrainedModel, accepted: Mapping[str, inspect.Parameter]) -> Iterator[dict[str, Any]]:
    """Inputs of all towers, of the main one, and of the text, where these differ; in every shape that they may have."""
    seen: list[set[str]] = []
    required = {name for name, one in accepted.items() if one.default is one.empty}
    for given in samples.candidates(model, accepted):
        yield given
        seen.append(set(given))
    for names in ({model.main_input_name, "decoder_input_ids"}, set(_IDS)):
        for given in samples.candidates(model, {name: accepted[name] for name in accepted if name in names | required}):
            if set(given) not in seen:
                yield given


def _masks(given: Mapping[str, Any], accepted: Mapping[str, inspect.Parameter]) -> Iterator[dict[str, Any]]:
    yield {}
    ids = given.get("input_ids")
    if ids is not None and "attention_mask" in accepted:
        # Without a mask some models look into the ids, which those without values do not have.
        yield {"attention_mask": torch.ones_like(ids)}
    features = given.get("input_features")
    if features is not None:
        for frames in dict.fromkeys(features.shape[-2:]):
            mask = torch.ones(features.shape[0], frames, dtype=torch.long, device=features.device)
            names = [name for name in accepted if name.endswith("mask") and name != "decoder_attention_mask"]
            for kind in (torch.long, torch.bool):
                yield {name: mask.to(kind) for name in names if name not in given}
