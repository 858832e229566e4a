"""Prompt tuning: trained vectors among the embedded tokens of a text (Lester et al. 2021, section 2).

The paper reads ``[P; X]``: a prompt ``P`` ``[prompt, width]`` before the embedded tokens ``X`` of the text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from adapterhub.errors import ConfigError
from adapterhub.methods.base import AdapterConfig, Modules, Place, Vocabulary, seeded
from adapterhub.methods.registry import register

Init = Literal["random_uniform", "random_normal", "sample_vocab", "from_string"]
_INITS = ("random_uniform", "random_normal", "sample_vocab", "from_string")


@dataclass(frozen=True, eq=False)
class PromptTuningConfig(AdapterConfig):
    """Every option of prompt tuning.

    ``prompt_length`` vectors come before the text (``combine="prefix"``), or after its first token
    (``"prefix_after_bos"``). ``encoder_prompt`` and ``decoder_prompt`` say whether the text of the encoder and that of
    the decoder of an encoder-decoder have them, each its own; a model of one text has them by ``encoder_prompt``.

    They start as random numbers, uniform in ± ``random_uniform_scale`` (``prompt_init="random_uniform"``) or normal
    (``"random_normal"``); as tokens drawn from the vocabulary (``"sample_vocab"``); or as those of ``prompt_init_text``
    (``"from_string"``), repeated or cut to ``prompt_length``. Its tokenizer is that of ``tokenizer_name_or_path``, by
    default of the model's own ``name_or_path``; or give the tokens themselves, ``prompt_init_ids``, which are where
    those of a text are kept.

    With ``insert_at="word_embeddings"`` they are like embedded tokens: the model adds positions and token types to them
    and normalises them. With ``"embedding_output"`` they come in after all that, before the first layer, and the text
    keeps the positions that it has without them, as in ``adapters``. Without learned positions it is nearly the same.

    Raises:
        ConfigError: for a value out of range, or options that do not go together.
    """

    method: ClassVar[str] = "prompt_tuning"

    prompt_length: int = 10
    prompt_init: Init = "random_uniform"
    prompt_init_text: str | None = None
    prompt_init_ids: tuple[int, ...] | None = None
    tokenizer_name_or_path: str | None = None
    random_uniform_scale: float = 0.5
    encoder_prompt: bool = True
    decoder_prompt: bool = False
    combine: Literal["prefix", "prefix_after_bos"] = "prefix"
    insert_at: Literal["word_embeddings", "embedding_output"] = "word_embeddings"
    init_weights_seed: int | None = None

    def __post_init__(self) -> None:
        if self.prompt_init_ids is not None:
            object.__setattr__(self, "prompt_init_ids", tuple(self.prompt_init_ids))
        self._require(isinstance(self.prompt_length, int) and self.prompt_length >= 1, "prompt_length", "at least 1")
        self._require(self.random_uniform_scale > 0, "random_uniform_scale", "above 0")
        for name, known in (
            ("prompt_init", _INITS),
            ("combine", ("prefix", "prefix_after_bos")),
            ("insert_at", ("word_embeddings", "embedding_output")),
        ):
            self._require(getattr(self, name) in known, name, f"one of {', '.join(known)}")
        if not (self.encoder_prompt or self.decoder_prompt):
            raise ConfigError("PromptTuningConfig: of encoder_prompt and decoder_prompt one must be True")
        if self.prompt_init == "from_string" and not (self.prompt_init_text or self.prompt_init_ids):
            raise ConfigError(
                "PromptTuningConfig: prompt_init='from_string' needs prompt_init_text, or the tokens of a text as "
                "prompt_init_ids"
            )

    def check(self, places: Sequence[Place]) -> None:
        chosen = self._chosen(places)
        if self.decoder_prompt and all(place.role != "decoder_prompt" for place in chosen):
            raise ConfigError(
                "PromptTuningConfig: decoder_prompt is for a decoder that reads tokens after an encoder that does, and "
                "this model has none. Leave it out: the one text of a model has the prompt of encoder_prompt"
            )
        for place in chosen:
            if place.vocabulary is not None:
                place.vocabulary.check()

    def resolved(self, places: Sequence[Place]) -> Self:
        """A copy with the tokens of ``prompt_init_text``."""
        found = (place.vocabulary for place in self._chosen(places) if place.vocabulary is not None)
        vocabulary = next(found, None)
        if self.prompt_init != "from_string" or self.prompt_init_ids is not None or vocabulary is None:
            return self
        ids = vocabulary.tokens(self.prompt_init_text or "", self.tokenizer_name_or_path)
        if not ids:
            raise ConfigError(f"prompt_init_text {self.prompt_init_text!r} has no tokens")
        return self.replace(prompt_init_ids=tuple(ids))

    def modules(self, places: Sequence[Place]) -> Modules:
        return Modules({place.name: Prompt(self, place) for place in self._chosen(places)})

    def _chosen(self, places: Sequence[Place]) -> list[Place]:
        """Those where it acts."""
        wanted = {"prompt": self.encoder_prompt, "decoder_prompt": self.decoder_prompt}
        return [place for place in places if wanted.get(place.role)]


class Prompt(nn.Module):
    """The vectors of one prompt; ``after_bos`` and ``as_tokens`` say where they come in."""

    def __init__(self, config: PromptTuningConfig, place: Place) -> None:
        super().__init__()
        self.after_bos = config.combine == "prefix_after_bos"
        self.as_tokens = config.insert_at == "word_embeddings"
        self.prompt_embedding = nn.Embedding(config.prompt_length, place.width)
        with torch.no_grad():
            self.prompt_embedding.weight.copy_(_initial(config, place))

    @property
    def length(self) -> int:
        """The number of vectors."""
        return self.prompt_embedding.num_embeddings

    def forward(self) -> Tensor:
        """``[prompt, width]``."""
        return self.prompt_embedding.weight


def _initial(config: PromptTuningConfig, place: Place) -> Tensor:
    generator = seeded(config.init_weights_seed, place.name)
    values = torch.empty(config.prompt_length, place.width)
    if config.prompt_init == "random_uniform":
        scale = config.random_uniform_scale
        return nn.init.uniform_(values, -scale, scale, generator=generator)
    if config.prompt_init == "random_normal" or place.vocabulary is None:
        return nn.init.normal_(values, generator=generator)
    return place.vocabulary.vectors(_tokens(config, place.vocabulary, generator)).float().to(values.device)


def _tokens(config: PromptTuningConfig, vocabulary: Vocabulary, generator: torch.Generator | None) -> list[int]:
    if config.prompt_init == "sample_vocab":
        return torch.randint(vocabulary.size, (config.prompt_length,), generator=generator).tolist()
    ids = config.prompt_init_ids or ()
    if wrong := [token for token in ids if not 0 <= token < vocabulary.size]:
        raise ConfigError(f"prompt_init_ids are from 0 to {vocabulary.size - 1} in this model, and not {wrong}")
    return [ids[index % len(ids)] for index in range(config.prompt_length)]


register(PromptTuningConfig, {"prompt_tuning": PromptTuningConfig()})
