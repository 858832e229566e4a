"""Prompts of a decoder after an encoder: against the text that they are made of, row by row, in generation, ..."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

import adapterhub
import tiny
from adapterhub import AdapterSetup, MultiTask, Parallel, PromptTuningConfig, Rows, Split, Stack
from adapterhub.errors import CompositionError, ConfigError
from adapterhub.methods import load_config
from adapterhub.sweep.architectures import build as build_small

TOKENS = (11, 12, 13)
OF_TOKENS = PromptTuningConfig(prompt_length=3, prompt_init="from_string", prompt_init_ids=TOKENS)
CONFIGS = {
    "e": OF_TOKENS,
    "d": OF_TOKENS.replace(encoder_prompt=False, decoder_prompt=True),
    "b": OF_TOKENS.replace(decoder_prompt=True),
    "a": OF_TOKENS.replace(encoder_prompt=False, decoder_prompt=True, combine="prefix_after_bos"),
    "r": PromptTuningConfig(prompt_length=2, decoder_prompt=True),
    "o": PromptTuningConfig(
        prompt_length=1, encoder_prompt=False, decoder_prompt=True, insert_at="embedding_output"
    ),
    "u": "prompt_tuning[prompt_length=1]|prompt_tuning[prompt_length=4, encoder_prompt=False, decoder_prompt=True]",
    "l": "lora[r=2]",
    "f": "loreft[r=2, prefix_positions=2, suffix_positions=1, dropout=0.0]",
}  # fmt: skip
FAMILIES = ("t5", "bart")


def build(family: str, kind: str = "Model", names: str = "edbaroulf", **changes: Any) -> Any:
    """A model in double precision with adapters, of which no two are alike."""
    model: Any = adapterhub.init(tiny.model(family, kind, **changes))
    for name in names:
        torch.manual_seed(ord(name))
        model.add_adapter(name, config=CONFIGS[name])
        if name not in "edba":
            for parameter in model.adapters[name].parameters():
                parameter.data.add_(0.2 * torch.randn_like(parameter))
    return model.double().eval()


def inputs(family: str, rows: int = 3) -> dict[str, Tensor]:
    given = tiny.inputs(family, batch=rows)
    given["attention_mask"] = torch.ones_like(given["input_ids"])
    given["attention_mask"][1, 4:] = 0
    given["decoder_input_ids"][:, 0] = 0
    return given


def longer(given: dict[str, Tensor], setup: str) -> dict[str, Tensor]:
    """The inputs with the tokens of a prompt in the texts."""
    more, ones = torch.tensor(TOKENS).expand(len(given["input_ids"]), -1), {"attention_mask": 1}
    made, at = dict(given), int(setup == "a")
    for name in ("input_ids", "attention_mask") if setup in "eb" else ():
        made[name] = torch.cat((torch.ones_like(more) if name in ones else more, given[name]), dim=1)
    if setup in "dba" and (text := given.get("decoder_input_ids")) is not None:
        made["decoder_input_ids"] = torch.cat((text[:, :at], more, text[:, at:]), dim=1)
    return made


def of_text(values: Tensor, setup: str) -> Tensor:
    """Those of the decoder's own text: of its first token what comes right before the second one."""
    return values if setup == "e" else values[:, 3:]


@pytest.mark.parametrize("setup", ["e", "d", "b", "a"])
@pytest.mark.parametrize("family", [*FAMILIES, "mbart"])
def test_a_prompt_of_tokens_is_a_text_with_these_tokens(family: str, setup: str) -> None:
    model, given = build(family, names="edba"), inputs(family)
    options: dict[str, Any] = {"output_hidden_states": True, "output_attentions": True}
    with torch.no_grad():
        wanted, bare = model(**longer(given, setup), **options), model(**given)
        model.set_active_adapters(setup)
        found = model(**given, **options)
        cut = model(**given, **options, return_dict=False)
    torch.testing.assert_close(found.last_hidden_state, of_text(wanted.last_hidden_state, setup))
    assert (found.last_hidden_state - bare.last_hidden_state).abs().max() > 1e-3
    for one, other in zip(found.decoder_hidden_states, wanted.decoder_hidden_states, strict=True):
        torch.testing.assert_close(one, of_text(other, setup))
    for one, other in zip(found.cross_attentions, wanted.cross_attentions, strict=True):
        torch.testing.assert_close(one, other[:, :, 0 if setup == "e" else 3 :])
    own = 3 if setup in "eb" else 0
    torch.testing.assert_close(found.encoder_last_hidden_state, wanted.encoder_last_hidden_state[:, own:])
    assert all(
        torch.equal(one, other) for one, other in zip(cut, found.to_tuple(), strict=True) if torch.is_tensor(one)
    )


MODELS = {family: build(family) for family in FAMILIES}
ROWS = ["d", None, Stack("e", "d"), "b", Stack("a", "l"), "u", "o", Stack("r", "o", "f")]


def run(model: Any, setup: Any, given: dict[str, Tensor], rows: slice | None = None, **options: Any) -> Tensor:
    own = given if rows is None else {name: value[rows] for name, value in given.items()}
    with torch.no_grad(), AdapterSetup(setup):
        return model(**own, **options).last_hidden_state


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_row_of_a_batch_is_as_if_it_ran_alone(family: str, masked: bool) -> None:
    model, given = MODELS[family], inputs(family, rows=len(ROWS))
    if masked:
        given["decoder_attention_mask"] = torch.ones_like(given["decoder_input_ids"])
        given["decoder_attention_mask"][0, 3:] = 0
    together = run(model, Rows(ROWS), given)
    for row, setup in enumerate(ROWS):
        until = 3 if masked and not row else None
        alone = run(model, setup, given, slice(row, row + 1))
        torch.testing.assert_close(together[row : row + 1, :until], alone[:, :until])


@pytest.mark.parametrize("family", FAMILIES)
def test_compositions(family: str) -> None:
    model, given = MODELS[family], inputs(family, rows=4)
    parts = ("d", Stack("e", "l"), "u")
    alone = [run(model, part, given) for part in parts]
    torch.testing.assert_close(run(model, Parallel(*parts), given), torch.cat(alone))
    tasks = [2, 0, 1, 2]
    found = run(model, MultiTask(*parts), given, task_ids=tasks)
    torch.testing.assert_close(found, torch.stack([alone[task][row] for row, task in enumerate(tasks)]))
    under = run(model, Stack("b", Parallel("l", "f")), given)  # repeated from a layer on
    torch.testing.assert_close(under, torch.cat([run(model, Stack("b", own), given) for own in "lf"]))
    with pytest.raises(CompositionError, match="unlike lengths"):
        model.set_active_adapters(Stack(Rows(["d", "e"]), Split("l", "f", splits=2)))


@pytest.mark.parametrize("family", FAMILIES)
def test_embedded_tokens_do_as_well(family: str) -> None:
    model, given = MODELS[family], inputs(family)
    found = dict(given)
    found["decoder_inputs_embeds"] = model.decoder.get_input_embeddings()(found.pop("decoder_input_ids"))
    setup = Rows(["r", "o", None])
    torch.testing.assert_close(run(model, setup, found), run(model, setup, given))


# Generation


def generate(model: Any, given: dict[str, Tensor], cache: str, **options: Any) -> Any:
    settings: dict[str, Any] = {"max_new_tokens": 5, "do_sample": False, "eos_token_id": 98, "pad_token_id": 0}
    settings |= {"use_cache": cache != "none", "return_dict_in_generate": True, "output_logits": True}
    if cache == "static":
        settings["cache_implementation"] = "static"
    return model.generate(**given, **settings | options)


@pytest.mark.parametrize("beams", [1, 2])
@pytest.mark.parametrize("cache", ["none", "dynamic", "static"])
@pytest.mark.parametrize("family", FAMILIES)
def test_generates_what_a_text_with_the_tokens_does(family: str, cache: str, beams: int) -> None:
    model, given = build(family, "ForConditionalGeneration", names="edba"), inputs(family)
    given["decoder_input_ids"] = torch.full((3, 1), model.config.decoder_start_token_id)
    for setup in "edba":
        text = longer(given, setup)
        start = int(text["decoder_input_ids"][0, 0])  # without which it would be put before the text
        wanted = generate(model, text, cache, num_beams=beams, decoder_start_token_id=start)
        with AdapterSetup(setup):
            found = generate(model, given, cache, num_beams=beams)
            by_itself = generate(model, {key: given[key] for key in ("input_ids", "attention_mask")}, cache)
        assert found.sequences[:, 1:].tolist() == wanted.sequences[:, -found.sequences.shape[1] + 1 :].tolist()
        for one, other in zip(found.logits, wanted.logits, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)
        assert beams > 1 or torch.equal(by_itself.sequences, found.sequences)


@pytest.mark.parametrize("beams", [1, 2])
@pytest.mark.parametrize("cache", ["none", "dynamic", "static"])
@pytest.mark.parametrize("family", FAMILIES)
def test_generates_row_by_row(family: str, cache: str, beams: int) -> None:
    """What beams make of a row hangs on its own padding and prompt, of the encoder and of the decoder."""
    model, given = build(family, "ForConditionalGeneration"), inputs(family, rows=4)
    del given["decoder_input_ids"]
    alike = ["d", Stack("e", "a"), "b", Stack("d", "f")]  # in the decoder; the encoders' prompts are of unlike lengths
    for rows in (alike, ["d", None, "u", Stack("o", "l")]):
        with AdapterSetup(Rows(rows)):
            together = generate(model, given, cache, num_beams=beams)
        for row, setup in enumerate(rows):
            own = {name: value[row : row + 1] for name, value in given.items()}
            with AdapterSetup(setup):
                alone = generate(model, own, "none", num_beams=beams)
            assert together.sequences[row].tolist() == alone.sequences[0].tolist()
            if beams == 1:
                for one, other in zip(together.logits, alone.logits, strict=True):
                    torch.testing.assert_close(one[row : row + 1], other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("family", ["bart", "marian"])
def test_a_decoder_alone_that_counts_positions_by_itself(family: str) -> None:
    """Its table is told positions: rows with and without a prompt are as they are alone, and go on from a cache."""
    config = tiny.config("bart") if family == "bart" else build_small(family).config
    model: Any = adapterhub.init(getattr(transformers, f"{family.title()}ForCausalLM")(config).double().eval())
    model.add_adapter("p", config="prompt_tuning[prompt_length=3]")
    model.add_adapter("o", config="prompt_tuning[prompt_length=2, insert_at=embedding_output]")
    model.adapters.double()
    ids = inputs("bart")["input_ids"]
    setup = Rows(["p", None, "o"])
    with torch.no_grad(), AdapterSetup(setup):
        whole = model(ids).logits
        begun = model(ids[:, :4], use_cache=True)
        rest = model(ids[:, 4:], past_key_values=begun.past_key_values).logits
    torch.testing.assert_close(rest, whole[:, 4:])
    for row, own in enumerate(setup):
        with torch.no_grad(), AdapterSetup(own):
            torch.testing.assert_close(whole[row : row + 1], model(ids[row : row + 1]).logits)


def test_rows_of_a_decoder_that_cannot_be_told_positions_need_no_cache() -> None:
    model: Any = adapterhub.init(build_small("m2m_100"))
    model.add_adapter("d", config=CONFIGS["d"])
    given = inputs("t5")
    whole = run(model, Rows(["d", None, "d"]), given, use_cache=False)
    torch.testing.assert_close(whole[1:2], run(model, None, given, slice(1, 2)))
    with torch.no_grad(), AdapterSetup(Rows(["d", None, "d"])):
        begun = model(**given, use_cache=True)
        with pytest.raises(CompositionError, match="use_cache=False"):
            model(**given, past_key_values=begun.past_key_values)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_text_goes_on_from_a_cache(family: str) -> None:
    model, given = MODELS[family], inputs(family)
    text = given.pop("decoder_input_ids")
    for setup in ("d", Rows(["a", None, "u"]), Stack("r", Split("l", "l", splits=5))):
        with torch.no_grad(), AdapterSetup(setup):
            whole = model(**given, decoder_input_ids=text).last_hidden_state
            begun = model(**given, decoder_input_ids=text[:, :2], use_cache=True)
            cache = begun.past_key_values
            rest = model(**given, decoder_input_ids=text[:, 2:], past_key_values=cache).last_hidden_state
        torch.testing.assert_close(rest, whole[:, 2:])


# Heads


@pytest.mark.parametrize("setup", ["d", "b", "a"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_is_of_the_text_alone(family: str, setup: str) -> None:
    model, given = build(family, "ForConditionalGeneration", names="dba"), inputs(family)
    labels = given.pop("decoder_input_ids").clone()
    labels[2, 3:] = -100
    with torch.no_grad(), AdapterSetup(setup):
        found = model(**given, labels=labels)
    shifted = model.prepare_decoder_input_ids_from_labels(labels)
    text = longer({**given, "decoder_input_ids": shifted}, setup)
    with torch.no_grad():
        logits = of_text(model(**text).logits, setup)
    torch.testing.assert_close(found.logits, logits)
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
    torch.testing.assert_close(found.loss, loss)


@pytest.mark.parametrize("family", FAMILIES)
def test_flexible_heads(family: str) -> None:
    model: Any = adapterhub.AutoAdapterModel.from_config(tiny.config(family, decoder_start_token_id=2))
    model.add_seq2seq_lm_head("words")
    model.add_classification_head("whole", num_labels=3)
    for name in "db":
        model.add_adapter(name, config=CONFIGS[name])
    model.double().eval()
    given = inputs(family)
    given["decoder_input_ids"][:, -1] = model.config.eos_token_id
    for head in ("words", "whole"):
        for setup in ("d", "b"):
            with torch.no_grad():
                wanted = model(**longer(given, setup), head=head).logits
                with AdapterSetup(setup, head_setup=head):
                    found = model(**given).logits
            torch.testing.assert_close(found, wanted[:, 3:] if head == "words" else wanted)
    with AdapterSetup(Parallel("d", "b"), head_setup="words"):
        both = generate(model, {"input_ids": given["input_ids"]}, "dynamic").sequences.tolist()
    for name, own in zip("db", (both[:3], both[3:]), strict=True):
        with AdapterSetup(name, head_setup="words"):
            assert generate(model, {"input_ids": given["input_ids"]}, "dynamic").sequences.tolist() == own


# What else a model is put through


@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_learns_and_the_base_is_left_alone(family: str) -> None:
    model, given = build(family, names="roa"), inputs(family)
    before = {name: value.clone() for name, value in model.state_dict().items() if "adapters." not in name}
    model.train_adapter(Stack("r", "o", "a"))
    model.eval()(**given).last_hidden_state.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None and bool(parameter.grad.any())) == name.startswith("adapters.")
    for name in "roa":
        model.delete_adapter(name)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("family", FAMILIES)
def test_compiled_and_copied(family: str) -> None:
    model, given = copy.deepcopy(MODELS[family]).float(), inputs(family)
    for setup in ("b", Rows(["d", None, Stack("o", "e")])):
        model.set_active_adapters(setup)
        with torch.no_grad():
            wanted = model(**given).last_hidden_state
            assert torch.equal(copy.deepcopy(model)(**given).last_hidden_state, wanted)
            torch.compiler.reset()
            compiled = torch.compile(model, fullgraph=True, backend="eager")
            torch.testing.assert_close(compiled(**given).last_hidden_state, wanted)


def test_gradient_checkpointing() -> None:
    found = []
    for checkpointing in (False, True):
        model = build("t5", names="ro", dropout_rate=0.0).train()
        if checkpointing:
            model.enable_input_require_grads()
            model.gradient_checkpointing_enable({"use_reentrant": False})
        with AdapterSetup(Rows(["r", "o", Stack("o", "r")])):
            output = model(**inputs("t5")).last_hidden_state
        output.square().sum().backward()
        found.append({path: parameter.grad for path, parameter in model.adapters.named_parameters()})
    for path, gradient in found[0].items():
        torch.testing.assert_close(found[1][path], gradient)


def test_other_adapters_see_the_text_alone() -> None:
    """ReFT acts at the first token of what a decoder generates from, whatever prompt is before it."""
    model, given = build("t5", "ForConditionalGeneration", names="d"), inputs("t5")
    del given["decoder_input_ids"]
    config = adapterhub.LoReftConfig(r=2, prefix_positions=2, suffix_positions=1, dropout=0.0, leave_out=("encoder",))
    model.add_adapter("f", config=config)
    for parameter in model.double().eval().adapters["f"].parameters():
        parameter.data.add_(0.2 * torch.randn_like(parameter))
    layer = next(one for one in model.sites.layers if one.tower == "decoder")
    changed = []
    for setup in ("d", Stack("d", "f")):
        states: list[Tensor] = []
        with AdapterSetup(setup):
            model.engine.enter()
            handle = model.get_submodule(layer.path).register_forward_hook(
                lambda module, args, output, states=states: states.append(output[0])
            )
            generate(model, given, "dynamic", max_new_tokens=1)
            handle.remove()
        changed.append(states[0])
    difference = (changed[0] - changed[1]).abs().amax(-1) > 1e-9
    assert difference.tolist() == [[False, False, False, True]] * 3


def test_options_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="encoder_prompt and decoder_prompt"):
        load_config("prompt_tuning[encoder_prompt=False]")
    for family in ("bert", "gpt2", "whisper"):
        model: Any = adapterhub.init(tiny.model(family))
        with pytest.raises(ConfigError, match="decoder_prompt is for a decoder"):
            model.add_adapter("d", config=CONFIGS["d"])
        assert not model.adapters
    with pytest.raises(ConfigError, match="act nowhere"):
        adapterhub.init(tiny.model("vit")).add_adapter("e", config=CONFIGS["e"])


@pytest.mark.parametrize("setup", ["d", "e", "o"])
def test_a_text_that_is_too_long_for_its_prompt_is_refused(setup: str) -> None:
    model, given = MODELS["bart"], inputs("bart")
    longest = model.config.max_position_embeddings - (0 if setup == "o" else 3)  # which takes no position
    name = "input_ids" if setup == "e" else "decoder_input_ids"
    given.pop("attention_mask")
    run(model, setup, {**given, name: torch.ones(3, longest, dtype=torch.long)})
    with pytest.raises(IndexError if setup == "o" else CompositionError, match=r"out of range|cut the text"):
        run(model, setup, {**given, name: torch.ones(3, longest + 1, dtype=torch.long)})


def test_a_first_layer_that_reads_more_than_tokens_says_so() -> None:
    """That of ProphetNet's decoder reads several streams, one after another."""
    model: Any = adapterhub.init(build_small("prophetnet"))
    for name in "do":
        model.add_adapter(name, config=CONFIGS[name])
    given = {"input_ids": torch.ones(2, 4, dtype=torch.long), "decoder_input_ids": torch.ones(2, 3, dtype=torch.long)}
    with torch.no_grad(), AdapterSetup("d"):
        found = model(**given).last_hidden_state
    with torch.no_grad():
        wanted = model(**longer(given, "d")).last_hidden_state
    torch.testing.assert_close(found, wanted[:, 3:])
    with AdapterSetup("o"), pytest.raises(CompositionError, match="word_embeddings"):
        model(**given)


def test_encoder_and_decoder_of_unlike_architectures() -> None:
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 99, "add_cross_attention": True}
    parts = tiny.config("bert"), transformers.GPT2Config(**sizes)
    config = transformers.EncoderDecoderConfig.from_encoder_decoder_configs(*parts)
    model: Any = adapterhub.init(transformers.EncoderDecoderModel(config).double().eval())
    model.add_adapter("b", config=CONFIGS["b"])
    model.adapters.double()
    given = inputs("t5")
    with torch.no_grad():
        wanted = model(**longer(given, "b")).logits
        with AdapterSetup("b"):
            found = model(**given).logits
    torch.testing.assert_close(found, wanted[:, 3:])


def test_saved_and_loaded(tmp_path: Path) -> None:
    model, given = MODELS["bart"], inputs("bart")
    model.save_adapter(tmp_path, "r")
    other: Any = adapterhub.init(tiny.model("bart").double()).eval()
    other.load_state_dict(model.state_dict(), strict=False)
    other.load_adapter(tmp_path, set_active=True)
    other.adapters.double()
    assert sorted(other.adapters["r"].state_dict()) == [
        "decoder_prompt.prompt_embedding.weight",
        "prompt.prompt_embedding.weight",
    ]
    with torch.no_grad():
        torch.testing.assert_close(other(**given).last_hidden_state, run(model, "r", given))
