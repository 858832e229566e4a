"""Prompts: against the text that they are made of, row by row, in generation, under heads and compositions."""

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import adapterhub
import tiny
from adapterhub import (
    AdapterSetup,
    Average,
    BatchSplit,
    Fuse,
    MultiTask,
    Parallel,
    PromptTuningConfig,
    Rows,
    Split,
    Stack,
)
from adapterhub.errors import CompositionError, ConfigError
from tokens import tokenizer

TEXT = [f for f in tiny.FAMILIES if f not in ("vit", "clip")]
KINDS = {"gpt2": "LMHeadModel", "llama": "ForCausalLM", "gemma2": "ForCausalLM", "t5": "ForConditionalGeneration",
         "bart": "ForConditionalGeneration"}  # fmt: skip
TOKENS = (11, 12, 13)
CONFIGS = {
    "p": PromptTuningConfig(prompt_length=3, prompt_init="from_string", prompt_init_ids=TOKENS),
    "b": PromptTuningConfig(
        prompt_length=3, prompt_init="from_string", prompt_init_ids=TOKENS, combine="prefix_after_bos"
    ),
    "r": "prompt_tuning[prompt_length=2]",
    "o": "prompt_tuning[prompt_length=4, insert_at=embedding_output]",
    "l": "prompt_tuning[prompt_length=1, insert_at=embedding_output, combine=prefix_after_bos]",
    "a": "double_seq_bn[reduction_factor=4]",
    "c": "lora[r=2]",
    "s": "seq_bn[reduction_factor=8]",
    "f": "loreft[r=2, prefix_positions=2, suffix_positions=1, dropout=0.0]",
    "x": "prefix_tuning_flat[prefix_length=2]",
    "i": "seq_bn_inv[reduction_factor=4]",
    "u": "prompt_tuning[prompt_length=2]|loreft[r=2, prefix_positions=2, suffix_positions=1, dropout=0.0]|ia3",
}


def build(family: str, kind: str = "Model", names: str = "pbrolacsxiu", **changes: Any) -> Any:
    """A model with adapters of many kinds, in double precision."""
    model: Any = adapterhub.init(tiny.model(family, kind, **changes))
    for name in names:
        torch.manual_seed(ord(name))
        model.add_adapter(name, config=CONFIGS[name])
        if name not in "pb":
            with torch.no_grad():
                for parameter in model.adapters[name].parameters():
                    parameter.add_(0.2 * torch.randn_like(parameter))
    return model.double().eval()


def inputs(family: str, **options: Any) -> dict[str, Tensor]:
    made = tiny.inputs(family, **options)
    return {name: value.double() if value.is_floating_point() else value for name, value in made.items()}


def longer(given: dict[str, Tensor], name: str, setup: str) -> dict[str, Tensor]:
    """The inputs with the tokens of a prompt in the text."""
    ids, mask = given[name], given.get("attention_mask")
    tokens = torch.tensor(TOKENS).expand(len(ids), -1)
    at = 0 if setup == "p" else 1
    made = {**given, name: torch.cat((ids[:, :at], tokens, ids[:, at:]), dim=1)}
    if mask is not None:
        made["attention_mask"] = torch.cat((mask[:, :at], torch.ones_like(tokens), mask[:, at:]), dim=1)
    return made


def without(values: Tensor, setup: str, decoder: bool = False) -> Tensor:
    """Those for the text; in a decoder, for its first token what comes right before the second one."""
    if setup == "p":
        return values[:, len(TOKENS) :]
    first = values[:, len(TOKENS), None] if decoder else values[:, :1]
    return torch.cat((first, values[:, 1 + len(TOKENS) :]), dim=1)


@pytest.mark.parametrize("setup", ["p", "b"])
@pytest.mark.parametrize("family", TEXT)
def test_a_prompt_of_tokens_is_a_text_with_these_tokens(family: str, setup: str) -> None:
    model, given = build(family, names=setup), inputs(family)
    name = "decoder_input_ids" if family == "whisper" else "input_ids"
    with torch.no_grad():
        wanted = model(**longer(given, name, setup), output_hidden_states=True)
        bare = model(**given).last_hidden_state
        model.set_active_adapters(setup)
        found = model(**given, output_hidden_states=True)
    decoder = family in tiny.DECODERS or family == "whisper"
    of_encoder = "encoder_last_hidden_state" in found and family != "whisper"
    own, states = ("encoder_last_hidden_state", "encoder_hidden_states") if of_encoder else ("last_hidden_state", "")
    torch.testing.assert_close(found[own], without(wanted[own], setup, decoder), rtol=1e-6, atol=1e-6)
    if of_encoder:  # the decoder reads the prompt too
        torch.testing.assert_close(found.last_hidden_state, wanted.last_hidden_state, rtol=1e-6, atol=1e-6)
    states = states or ("decoder_hidden_states" if family == "whisper" else "hidden_states")
    for one, other in zip(found[states], wanted[states], strict=True):
        torch.testing.assert_close(one, without(other, setup, decoder), rtol=1e-6, atol=1e-6)
    assert (found.last_hidden_state - bare).abs().max() > 1e-3


@pytest.mark.parametrize("family", ["roberta", "gpt2", "llama", "mpnet"])
def test_padding_on_the_left_stays_there(family: str) -> None:
    """A row that is padded on the left is as it is alone."""
    model, ids = build(family, names="pbrolua"), inputs(family)["input_ids"][:1]
    padding = torch.full((1, 4), model.config.pad_token_id or 0)
    padded = {"input_ids": torch.cat((padding, ids), 1), "attention_mask": torch.ones(1, 11, dtype=torch.long)}
    padded["attention_mask"][:, :4] = 0
    positions: dict[str, Tensor] = {}
    if family != "roberta" and family != "mpnet":  # which count by themselves, padding left out
        positions["position_ids"] = (padded["attention_mask"].cumsum(1) - 1).clamp(min=0)
    for setup in ("p", "b", "o", Stack("r", "l", "a"), "u"):
        with torch.no_grad(), AdapterSetup(setup):
            alone = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
            found = model(**padded, **positions).last_hidden_state
        torch.testing.assert_close(found[:, 4:], alone)


def of_a_row(names: str = "pbrolacsxiu") -> st.SearchStrategy[Any]:
    """Expressions over prompts and other adapters that treat every row alike."""
    one = st.sampled_from(names)
    return st.one_of(st.none(), one, st.lists(one, min_size=2, max_size=3, unique=True).map(lambda own: Stack(*own)))


FAMILIES = ("bert", "roberta", "deberta-v2", "gpt2", "llama", "t5", "bart")
MODELS = {family: build(family, names="pbrolacsiu" if "deberta" in family else "pbrolacsxiu") for family in FAMILIES}


def run(model: Any, setup: Any, rows: list[int], given: dict[str, Tensor], **kwargs: Any) -> Tensor:
    """What the model gives for some rows, 0 at padding, of which some architectures give anything."""
    own = {name: value[rows] for name, value in given.items()}
    with torch.no_grad(), AdapterSetup(setup):
        hidden = model(**own, **kwargs).last_hidden_state
    if model.config.is_encoder_decoder:
        return hidden
    return hidden * own["attention_mask"].repeat(len(hidden) // len(rows), 1).unsqueeze(-1)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(FAMILIES), st.data())
def test_every_row_of_a_batch_is_as_if_it_ran_alone(family: str, data: Any) -> None:
    model, given = MODELS[family], inputs(family, batch=4)
    rows = data.draw(st.lists(of_a_row("".join(model.adapters)), min_size=4, max_size=4))
    if all(row is None for row in rows):
        rows[0] = "p"
    together = run(model, Rows(rows), [0, 1, 2, 3], given)
    for row, setup in enumerate(rows):
        torch.testing.assert_close(together[row : row + 1], run(model, setup, [row], given), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("family", FAMILIES)
def test_compositions_of_rows(family: str) -> None:
    model, given = MODELS[family], inputs(family, batch=4)
    every, parts = [0, 1, 2, 3], ("p", Stack("o", "a"), "b")
    alone = [run(model, part, every, given) for part in parts]
    split = run(model, BatchSplit(*parts, batch_sizes=[1, 2, 1]), every, given)
    torch.testing.assert_close(split, torch.cat((alone[0][:1], alone[1][1:3], alone[2][3:])))
    torch.testing.assert_close(run(model, Parallel(*parts), every, given), torch.cat(alone))
    tasks = [2, 0, 1, 2]
    by_task = run(model, MultiTask(*parts), every, given, task_ids=tasks)
    torch.testing.assert_close(by_task, torch.stack([alone[task][row] for row, task in enumerate(tasks)]))
    under = run(model, Stack("p", Parallel("a", "c")), every, given)  # repeated from a layer on
    torch.testing.assert_close(under, torch.cat([run(model, Stack("p", own), every, given) for own in "ac"]))


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_prompts_of_a_stack_stand_one_after_another(family: str) -> None:
    model, given = MODELS[family], inputs(family)
    made = model.adapters["p"].at("prompt")()
    other = model.adapters["r"].at("prompt")()
    found = run(model, Stack("p", "r"), [0, 1, 2], given)
    vectors = torch.cat((made, other)).expand(3, -1, -1)
    embedded = model.get_input_embeddings()(given["input_ids"])
    mask = torch.cat((torch.ones(3, 5, dtype=torch.long), given["attention_mask"]), 1)
    with torch.no_grad():
        wanted = model(inputs_embeds=torch.cat((vectors, embedded), 1), attention_mask=mask).last_hidden_state
    torch.testing.assert_close(found, wanted[:, 5:] * given["attention_mask"].unsqueeze(-1))


@pytest.mark.parametrize("family", ["bert", "roberta", "gpt2", "bart"])
def test_at_the_embedding_output_the_text_keeps_its_positions(family: str) -> None:
    model, given = MODELS[family], inputs(family)
    caught: list[Tensor] = []
    first = model.get_submodule(model.sites.layers[0].path)
    handle = first.register_forward_pre_hook(lambda module, args: caught.append(args[0]))
    run(model, None, [0, 1, 2], given)
    with AdapterSetup("o"):
        model.engine.enter()
        last = first.register_forward_pre_hook(lambda module, args: caught.append(args[0]))
        run(model, "o", [0, 1, 2], given)
    handle.remove()
    last.remove()
    bare, grown = caught[0], caught[-1]
    torch.testing.assert_close(grown[:, 4:], bare)
    torch.testing.assert_close(grown[:, :4], model.adapters["o"].at("prompt")().expand(3, -1, -1))


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_an_invertible_adapter_sees_the_prompt_whichever_was_active_first(family: str) -> None:
    model, given = copy.deepcopy(MODELS[family]), inputs(family)
    wanted = run(model, Stack("o", "i"), [0, 1, 2], given)
    model.set_active_adapters("i")
    torch.testing.assert_close(run(model, Stack("o", "i"), [0, 1, 2], given), wanted)
    assert (wanted - run(model, "i", [0, 1, 2], given)).abs().max() > 1e-3


@pytest.mark.parametrize("family", ["bert", "gpt2", "t5"])
def test_embedded_tokens_do_as_well(family: str) -> None:
    model, given = MODELS[family], inputs(family)
    setup = Rows(["p", "o", None])
    found = dict(given)
    found["inputs_embeds"] = model.get_input_embeddings()(found.pop("input_ids"))
    torch.testing.assert_close(run(model, setup, [0, 1, 2], found), run(model, setup, [0, 1, 2], given))


@pytest.mark.parametrize("family", ["bert", "t5"])
def test_tuples_are_cut_too(family: str) -> None:
    flexible: Any = adapterhub.AutoAdapterModel.from_config(tiny.config(family))
    flexible.add_adapter("p", config=CONFIGS["p"])
    given = inputs(family)
    for model in (build(family, names="p"), flexible.double().eval()):
        with torch.no_grad(), AdapterSetup("p"):
            named = model(**given, output_hidden_states=True, output_attentions=True).to_tuple()
            found = model(**given, output_hidden_states=True, output_attentions=True, return_dict=False)
        assert isinstance(found, tuple) and len(found) == len(named)
        for one, other in zip(found, named, strict=True):
            if isinstance(one, Tensor):
                assert torch.equal(one, other) and (one.dim() < 3 or one.shape[1] in (5, 7))
            elif isinstance(one, tuple):
                assert all(torch.equal(*pair) for pair in zip(one, other, strict=True))
                assert all(value.shape[value.dim() - 2] in (5, 7) for value in one)


@pytest.mark.parametrize("beams", [1, 2])
@pytest.mark.parametrize("cache", ["none", "dynamic", "static"])
@pytest.mark.parametrize("family", KINDS)
def test_generates_what_a_text_with_the_tokens_does(family: str, cache: str, beams: int) -> None:
    model, text = build(family, KINDS[family], names="pb"), inputs(family)["input_ids"]
    options: dict[str, Any] = {"max_new_tokens": 5, "do_sample": False, "num_beams": beams, "eos_token_id": 98}
    options |= {"pad_token_id": 0, "use_cache": cache != "none"}
    options |= {"return_dict_in_generate": True, "output_logits": True}
    if cache == "static":
        options["cache_implementation"] = "static"
    for setup, ids in (("p", text), ("b", text), ("b", text[:, :1])):
        tokens = longer({"input_ids": ids}, "input_ids", setup)["input_ids"]
        wanted = model.generate(tokens, attention_mask=torch.ones_like(tokens), **options)
        with AdapterSetup(setup):
            found = model.generate(ids, attention_mask=torch.ones_like(ids), **options)
        own = 1 if model.config.is_encoder_decoder else ids.shape[1]
        new = found.sequences[:, own:]
        assert new.tolist() == wanted.sequences[:, -new.shape[1] :].tolist()
        for one, other in zip(found.logits, wanted.logits, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("beams", [1, 2])
@pytest.mark.parametrize("cache", ["none", "dynamic", "static"])
@pytest.mark.parametrize("family", KINDS)
def test_generates_row_by_row(family: str, cache: str, beams: int) -> None:
    model = build(family, KINDS[family], names="poba")
    if family == "gemma2":  # whose own padding on the left is not a number in double precision
        model.float()
    given = inputs(family, batch=4)
    ids, mask = given["input_ids"], torch.ones_like(given["input_ids"])
    if not model.config.is_encoder_decoder:
        ids[1, :3], mask[1, :3] = 0, 0
    options: dict[str, Any] = {"max_new_tokens": 5, "do_sample": False, "num_beams": beams, "eos_token_id": 98}
    options |= {"pad_token_id": 0, "use_cache": cache != "none"}
    rows = ["p", Stack("o", "p"), None, Stack("b", "a")]
    with AdapterSetup(Rows(rows)):
        static = {"cache_implementation": "static"} if cache == "static" else {}
        together = model.generate(ids, attention_mask=mask, **options, **static)
    for row, own in enumerate(rows):
        here = mask[row].bool()
        with AdapterSetup(own):
            alone = model.generate(ids[row : row + 1, here], attention_mask=mask[row : row + 1, here], **options)[0]
        if model.config.is_encoder_decoder:
            assert together[row, : len(alone)].tolist() == alone.tolist()
        else:
            new = alone[int(here.sum()) :]
            assert together[row, ids.shape[1] :][: len(new)].tolist() == new.tolist()


def test_without_a_mask_and_without_a_cache_the_text_sees_its_prompt() -> None:
    """Positions that stand still are taken for packed texts where nothing else is said."""
    model, ids = MODELS["gpt2"], inputs("gpt2")["input_ids"]
    for setup in ("o", "l", Rows(["o", "o", "o"])):
        with torch.no_grad(), AdapterSetup(setup):
            found = model(input_ids=ids, use_cache=False).last_hidden_state
            wanted = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).last_hidden_state
        torch.testing.assert_close(found, wanted)


def test_a_text_goes_on_from_a_cache() -> None:
    model, ids = build("llama"), inputs("llama")["input_ids"]
    for setup in ("p", "b", Rows(["p", None, "u"]), Stack("r", Split("s", "a", splits=5))):
        with torch.no_grad(), AdapterSetup(setup):
            whole = model(ids).last_hidden_state
            begun = model(ids[:, :4], use_cache=True)
            rest = model(ids[:, 4:], past_key_values=begun.past_key_values).last_hidden_state
        if setup == Rows(["p", None, "u"]):  # ReFT acts at the last token of what it was given
            whole, rest = whole[:2], rest[:2]
        torch.testing.assert_close(rest, whole[:, 4:])


# Heads


def targets(kind: str, given: dict[str, Tensor]) -> dict[str, Tensor]:
    if kind == "QuestionAnswering":
        return {"start_positions": torch.tensor([1, 2, 3]), "end_positions": torch.tensor([2, 4, 4])}
    if kind == "SequenceClassification":
        return {"labels": torch.tensor([0, 1, 0])}
    return {"labels": torch.where(given["attention_mask"].bool(), given["input_ids"] % 2, -100)}


@pytest.mark.parametrize("kind", ["TokenClassification", "QuestionAnswering", "MaskedLM"])
@pytest.mark.parametrize("setup", ["p", "b", Rows(["p", None, "b"])])
def test_heads_of_every_token_see_the_text_alone(kind: str, setup: Any) -> None:
    model, given = build("bert", f"For{kind}", names="pb"), inputs("bert")
    wanted = targets(kind, given)
    with torch.no_grad(), AdapterSetup(setup):
        output = model(**given, **wanted)
        base = model.bert(**given).last_hidden_state
    head = {"TokenClassification": "classifier", "QuestionAnswering": "qa_outputs", "MaskedLM": "cls"}[kind]
    logits = getattr(model, head)(base)
    found = torch.stack((output.start_logits, output.end_logits), -1) if kind == "QuestionAnswering" else output.logits
    torch.testing.assert_close(found, logits)
    if kind == "QuestionAnswering":
        losses = [torch.nn.functional.cross_entropy(logits[..., i], own) for i, own in enumerate(wanted.values())]
        torch.testing.assert_close(output.loss, sum(losses) / 2)
    else:
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), wanted["labels"].flatten())
        torch.testing.assert_close(output.loss, loss)


@pytest.mark.parametrize("setup", ["p", "b"])
@pytest.mark.parametrize("family", ["bert", "roberta", "electra", "distilbert", "deberta-v2", "gpt2", "llama"])
def test_a_class_for_a_whole_text_reads_what_it_would_of_the_longer_one(family: str, setup: str) -> None:
    model = build(family, "ForSequenceClassification", names=setup, pad_token_id=0)
    given = inputs(family) | {"labels": torch.tensor([0, 1, 0])}
    given["input_ids"][~given["attention_mask"].bool()] = 0  # by which the last token of a text is found
    with torch.no_grad():
        wanted = model(**longer(given, "input_ids", setup))
        model.set_active_adapters(setup)
        found = model(**given)
    torch.testing.assert_close(found.logits, wanted.logits, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found.loss, wanted.loss, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("setup", ["p", "b"])
def test_the_next_token_is_learnt_of_the_text_alone(setup: str) -> None:
    model, given = build("llama", "ForCausalLM", names="pb"), inputs("llama")
    labels = torch.where(given["attention_mask"].bool(), given["input_ids"], -100)
    more = longer({"input_ids": labels, "attention_mask": given["attention_mask"]}, "input_ids", setup)["input_ids"]
    at = 0 if setup == "p" else 1
    more[:, at : at + 3] = -100
    with torch.no_grad():
        wanted = model(**longer(given, "input_ids", setup), labels=more)
        model.set_active_adapters(setup)
        found = model(**given, labels=labels)
        kept = model(**given, logits_to_keep=2).logits
    torch.testing.assert_close(found.logits, without(wanted.logits, setup, decoder=True))
    torch.testing.assert_close(kept, found.logits[:, -2:])
    if setup == "b":
        torch.testing.assert_close(found.loss, wanted.loss)
    else:  # but for the first token, which the prompt alone would have to foretell
        loss = torch.nn.functional.cross_entropy(found.logits[:, :-1].float().flatten(0, 1), labels[:, 1:].flatten())
        torch.testing.assert_close(found.loss, loss)


@pytest.mark.parametrize("family", ["roberta", "bert"])
@pytest.mark.parametrize("setup", ["p", "b", "o", Rows(["p", None, "b"]), Parallel("p", "r")])
def test_flexible_heads(family: str, setup: Any) -> None:
    """One for a whole text reads the first position of all, one for tokens those of the text."""
    model: Any = adapterhub.AutoAdapterModel.from_config(tiny.config(family))
    model.add_tagging_head("tokens", num_labels=4)
    model.add_classification_head("whole", num_labels=3)  # which is active while prompts are added
    for name in "pbor":
        model.add_adapter(name, config=CONFIGS[name])
    model.double().eval()
    given = inputs(family)
    plain: Any = adapterhub.init(type(tiny.model(family))(model.config)).double().eval()
    plain.load_state_dict({key: value for key, value in model.state_dict().items() if key in plain.state_dict()})
    for name in "pbor":
        plain.add_adapter(name, config=CONFIGS[name])
        plain.adapters[name].load_state_dict(model.adapters[name].state_dict())
    plain.double()
    caught: list[Tensor] = []
    last = plain.get_submodule(plain.sites.layers[-1].path)
    with torch.no_grad(), AdapterSetup(setup, head_setup="whole" if not isinstance(setup, Parallel) else None):
        handle = last.register_forward_hook(lambda module, args, output: caught.append(output))
        states = plain(**given).last_hidden_state
        handle.remove()
        hidden = caught[0] if isinstance(caught[0], Tensor) else caught[0][0]
        tokens = model(**given, head="tokens")
        whole = model(**given, head="whole")
    logits = tokens.logits
    torch.testing.assert_close(logits, model.heads["tokens"].layers(states))
    torch.testing.assert_close(whole.logits, model.heads["whole"].layers(hidden[:, 0]))


def test_the_head_of_a_checkpoint_reads_what_its_class_reads(tmp_path: Path) -> None:
    tiny.model("roberta", "ForSequenceClassification").save_pretrained(tmp_path)
    logits = []
    for kind in (adapterhub.AutoAdapterModel, adapterhub.AutoModelForSequenceClassification):
        model: Any = kind.from_pretrained(tmp_path)
        model.add_adapter("p", config=CONFIGS["p"])
        model.set_active_adapters("p")
        with torch.no_grad():
            logits.append(model.eval()(**tiny.inputs("roberta")).logits)
    torch.testing.assert_close(*logits)


@pytest.mark.parametrize("family", ["gpt2", "t5"])
def test_flexible_heads_write(family: str) -> None:
    model: Any = adapterhub.AutoAdapterModel.from_config(tiny.config(family))
    for name in "pb":
        model.add_adapter(name, config=CONFIGS[name])
    add = model.add_seq2seq_lm_head if family == "t5" else model.add_causal_lm_head
    add("head")
    model.double().eval()
    ids = inputs(family)["input_ids"]
    options = {"max_new_tokens": 4, "do_sample": False, "eos_token_id": 98, "pad_token_id": 0}
    found = {}
    for setup in ("p", "b"):
        tokens = longer({"input_ids": ids}, "input_ids", setup)["input_ids"]
        wanted = model.generate(tokens, attention_mask=torch.ones_like(tokens), **options)
        with AdapterSetup(setup, head_setup="head"):
            found[setup] = model.generate(ids, attention_mask=torch.ones_like(ids), **options)
        assert found[setup][:, -4:].tolist() == wanted[:, -4:].tolist()
    with AdapterSetup(Parallel("p", "b")):
        both = model.generate(ids, attention_mask=torch.ones_like(ids), **options)
    assert both.tolist() == [*found["p"].tolist(), *found["b"].tolist()]


# What else a model is put through


@pytest.mark.parametrize("family", ["bert", "llama", "t5", "albert", "gpt2"])
def test_every_parameter_learns_and_the_base_is_left_alone(family: str) -> None:
    model, given = build(family, names="rol"), inputs(family)
    with torch.no_grad():
        bare = model(**given).last_hidden_state
    before = {name: value.clone() for name, value in model.state_dict().items() if "adapters." not in name}
    model.train_adapter(Stack("r", "o", "l"))
    model.eval()(**given).last_hidden_state.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None and bool(parameter.grad.any())) == name.startswith("adapters.")
    for name in "rol":
        model.delete_adapter(name)
    with torch.no_grad():
        assert torch.equal(model(**given).last_hidden_state, bare)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


SETUPS = ("p", Stack("o", "a"), Rows(["p", None, "o", Stack("b", "r")]), Parallel("p", "l"))


@pytest.mark.parametrize(
    ("family", "setup"), [*(("bert", setup) for setup in SETUPS), ("llama", SETUPS[2]), ("t5", SETUPS[2])]
)
def test_copied_pickled_and_compiled(family: str, setup: Any) -> None:
    model, given = copy.deepcopy(MODELS[family]).float(), tiny.inputs(family, batch=4)
    model.set_active_adapters(setup)
    with torch.no_grad():
        wanted = model(**given).last_hidden_state
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            for parameter in model.adapters.parameters():
                parameter.zero_()
            assert torch.equal(other(**given).last_hidden_state, wanted)
            model.load_state_dict(other.state_dict())
        torch.compiler.reset()
        compiled = torch.compile(model, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(**given).last_hidden_state, wanted)


def test_what_goes_on_from_a_static_cache_compiles() -> None:
    model, ids = build("llama", names="p").float(), inputs("llama")["input_ids"]
    model.set_active_adapters("p")
    cache = transformers.StaticCache(config=model.config, max_cache_len=20)
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    with torch.no_grad():
        whole = model(ids).last_hidden_state
        model(ids[:, :5], past_key_values=cache, use_cache=True)
        for at in (5, 6):
            positions = torch.full((1, 1), at)
            found = compiled(ids[:, at, None], past_key_values=cache, position_ids=positions).last_hidden_state
            torch.testing.assert_close(found[:, 0], whole[:, at])


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("family", ["bert", "llama", "t5"])
def test_gradient_checkpointing(family: str, use_reentrant: bool) -> None:
    found = []
    for checkpointing in (False, True):
        model = (copy.deepcopy(MODELS[family]) if family != "t5" else build("t5", dropout_rate=0.0)).train()
        if checkpointing:
            model.enable_input_require_grads()
            model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        with AdapterSetup(Rows([Stack("p", "o"), "b", "u", None])):
            output = model(**inputs(family, batch=4)).last_hidden_state
        output.square().sum().backward()
        assert not model.engine.layouts
        found.append({path: p.grad for path, p in model.adapters.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys() and found[0]
    for path, gradient in found[0].items():
        torch.testing.assert_close(found[1][path], gradient)


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_positions_of_other_adapters_are_those_of_the_text(family: str) -> None:
    """A Split beside a prompt divides the text; the prompt goes with what the first of them gets."""
    model, given = MODELS[family], inputs(family)
    layer = model.get_submodule(next(s for s in model.sites.sublayers if s.kind == "feed_forward").output_at)
    found = {}
    for name, setup in {
        "split": Split("s", Stack("s", "s"), splits=3),
        "first": "s",
        "second": Stack("s", "s"),
    }.items():
        caught: list[Tensor] = []
        with torch.no_grad(), AdapterSetup(Stack("p", setup)):
            model.engine.enter()
            handle = layer.register_forward_hook(lambda module, args, output, caught=caught: caught.append(output))
            model(**given)
            handle.remove()
        found[name] = caught[-1]
    wanted = torch.cat((found["first"][:, :6], found["second"][:, 6:]), dim=1)
    torch.testing.assert_close(found["split"], wanted)
    assert not torch.allclose(found["first"], found["second"])


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_a_prompt_is_no_token_of_a_text(family: str) -> None:
    """ReFT acts at the first two tokens of a text and at the last one, padding left out, whatever is before it."""
    model, given = build(family, names="pbf"), inputs(family)
    layer = model.get_submodule(model.sites.layers[0].path)
    for setup, at in (("p", [3, 4, 9]), ("b", [0, 4, 9]), (Rows(["p", None, "b"]), None)):
        states: list[Tensor] = []
        for whole in (setup, Stack(setup, "f")):
            with torch.no_grad(), AdapterSetup(whole):
                model.engine.enter()
                handle = layer.register_forward_hook(
                    lambda module, args, output, states=states: states.append(
                        output if isinstance(output, Tensor) else output[0]
                    )
                )
                model(**given)
                handle.remove()
        changed = (states[0] - states[1]).abs().amax(-1) > 1e-6
        assert changed.sum(1).tolist() == [3, 3, 3]
        assert at is None or changed[0].nonzero().flatten().tolist() == at


def test_what_cannot_be_is_refused() -> None:
    model, given = copy.deepcopy(MODELS["bert"]), inputs("bert")
    for setup in (Average("p", "r"), Split("p", "r", splits=2), Average("p", "a")):
        with pytest.raises(CompositionError, match="prompts of adapters p"):
            model.set_active_adapters(setup)
    with pytest.raises(CompositionError, match="fused"):
        model.add_adapter_fusion(Fuse("p", "r"))
    with pytest.raises(CompositionError, match="2, 3"):
        model.set_active_adapters(Stack(Rows(["p", "r", "r"]), Split("a", "c", splits=2)))
    assert model.active_adapters is None
    model.set_active_adapters("p")
    with pytest.raises(CompositionError, match="attention_mask"):
        model(input_ids=given["input_ids"], attention_mask=torch.ones(3, 1, 7, 7))
    with pytest.raises(CompositionError, match="62 tokens and a prompt of 3 are more than the 64"):
        model(input_ids=torch.ones(1, 62, dtype=torch.long))
    with torch.no_grad():  # and the next call is as ever
        again = model(**given).last_hidden_state
    torch.testing.assert_close(again * given["attention_mask"].unsqueeze(-1), run(model, "p", [0, 1, 2], given))
    decoder = build("llama", "ForCausalLM", names="p")
    decoder.set_active_adapters("p")
    with pytest.raises(CompositionError, match="prompt_lookup_num_tokens"):
        decoder.generate(torch.ones(1, 4, dtype=torch.long), prompt_lookup_num_tokens=2)


def test_a_model_that_reads_no_tokens_says_so() -> None:
    for family in ("vit", "clip"):
        with pytest.raises(ConfigError, match="act nowhere"):
            adapterhub.init(tiny.model(family)).add_adapter("p", config="prompt_tuning")


def test_a_model_in_which_embeddings_are_something_else_says_so() -> None:
    settings = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 37}
    config = transformers.EsmConfig(
        vocab_size=99, pad_token_id=0, mask_token_id=5, max_position_embeddings=64, **settings
    )
    model: Any = adapterhub.init(transformers.EsmModel(config))  # which adds no positions to embedded tokens
    with pytest.raises(ConfigError, match="inputs_embeds"):
        model.add_adapter("p", config="prompt_tuning")
    assert not model.adapters


def test_of_a_text(tmp_path: Path) -> None:
    folder = tmp_path / "base"
    tiny.model("bert").save_pretrained(folder)
    words = tokenizer(folder)
    model: Any = adapterhub.AutoAdapterModel.from_pretrained(folder)
    config = PromptTuningConfig(prompt_length=5, prompt_init="from_string", prompt_init_text="the good film")
    model.add_adapter("t", config=config)
    ids = words("the good film", add_special_tokens=False)["input_ids"]
    assert model.adapters["t"].config.prompt_init_ids == tuple(ids)
    table = model.get_input_embeddings().weight
    assert torch.equal(model.adapters["t"].at("prompt")(), table[[*ids, *ids[:2]]])
    model.save_adapter(tmp_path / "t", "t")
    other: Any = adapterhub.init(tiny.model("bert"))
    assert not other.name_or_path
    with pytest.raises(ConfigError, match="tokenizer_name_or_path"):
        other.add_adapter("u", config=config)
    with pytest.raises(ConfigError, match="nowhere"):
        other.add_adapter("u", config=config.replace(tokenizer_name_or_path=str(tmp_path / "nowhere")))
    with pytest.raises(ConfigError, match="98"):
        other.add_adapter("u", config=config.replace(prompt_init_ids=(5, 99)))
    assert not other.adapters
    other.add_adapter("u", config=config.replace(tokenizer_name_or_path=str(folder)))
    assert torch.equal(other.adapters["u"].at("prompt")(), model.adapters["t"].at("prompt")())
    other.load_adapter(tmp_path / "t")  # which needs no tokenizer any more
    assert torch.equal(other.adapters["t"].at("prompt")(), model.adapters["t"].at("prompt")())
    assert other.adapters["t"].config == model.adapters["t"].config
    other.load_adapter(tmp_path / "t", load_as="v")
    assert torch.equal(other.adapters["v"].at("prompt")(), model.adapters["t"].at("prompt")())
