"""Predictors: answers in order, batches under the budget, precisions, merging; the model stays as it was."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoTokenizer, PreTrainedTokenizerBase

import adapterhub
import tiny
import tokens
from adapterhub import AutoAdapterModel, Predictor
from adapterhub.errors import ConfigError, DataError, HeadError
from adapterhub.inference import precision as precisions
from adapterhub.inference.int8 import Int8Forward, rounded

TEXTS = [row["text"] + " and it was" * (index % 5) for index, row in enumerate(tokens.sentences(23))]


@pytest.fixture(scope="module")
def tokenizer(backbone: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(backbone, model_max_length=32)


def model_with(backbone: Path, config: str = "seq_bn[reduction_factor=4]") -> Any:
    """A classifier of three labels whose adapter changes what it gives."""
    torch.manual_seed(0)
    model = AutoAdapterModel.from_pretrained(backbone)
    model.add_adapter("a", config=config)
    model.add_classification_head("a", num_labels=3, id2label={0: "bad", 1: "so", 2: "good"})
    tiny.randomise(model, "a", 0.1)
    with torch.no_grad():
        model.heads["a"].layers[-1].weight.normal_(std=0.5)
    model.set_active_adapters("a")
    return model.eval()


def alone(model: Any, tokenizer: Any, text: Any) -> torch.Tensor:
    """The scores of one text by itself."""
    with torch.no_grad():
        return model(**tokenizer(*([text] if isinstance(text, str) else text), return_tensors="pt")).logits.softmax(-1)[
            0
        ]


def check(answers: list[dict[str, Any]], model: Any, tokenizer: Any, tolerance: float) -> None:
    assert len(answers) == len(TEXTS)
    for text, answer in zip(TEXTS, answers, strict=True):
        scores = alone(model, tokenizer, text)
        index = ["bad", "so", "good"].index(answer["label"])
        assert answer["score"] == pytest.approx(scores[index].item(), abs=tolerance)
        assert scores[index] >= scores.max() - 2 * tolerance


@pytest.mark.parametrize(("budget", "window"), [(1, 2), (40, 7), (64, 100), (4096, 5)])
def test_answers_are_those_of_each_text_alone_in_order(
    backbone: Path, tokenizer: Any, budget: int, window: int
) -> None:
    model = model_with(backbone)
    predictor = Predictor(model, tokenizer, precision="fp32", token_budget=budget, window=window)
    check(predictor.predict(TEXTS), model, tokenizer, 1e-5)


@pytest.mark.parametrize(("precision", "tolerance"), [("bf16", 0.03), ("int8", 0.03)])
@pytest.mark.parametrize("config", ["seq_bn[reduction_factor=4]", "lora[r=4]", "loreft[r=2]", "prefix_tuning"])
def test_in_fewer_bits_answers_are_nearly_the_same(
    backbone: Path, tokenizer: Any, precision: Any, tolerance: float, config: str
) -> None:
    model = model_with(backbone, config)
    predictor = Predictor(model, tokenizer, precision=precision)
    exact = [alone(model, tokenizer, text) for text in TEXTS]
    check(predictor.predict(TEXTS), model, tokenizer, tolerance)
    given = [alone(predictor.model.to("cpu"), tokenizer, text) for text in TEXTS]
    assert not torch.equal(torch.stack(given), torch.stack(exact))  # or nothing was computed in fewer bits


def test_no_batch_is_larger_than_the_budget_and_padding_is_little(backbone: Path, tokenizer: Any) -> None:
    predictor = Predictor(model_with(backbone), tokenizer, precision="fp32", token_budget=48)
    shapes: list[torch.Size] = []
    forward = predictor.model.forward
    predictor.model.forward = lambda **inputs: (shapes.append(inputs["input_ids"].shape), forward(**inputs))[1]
    predictor.predict(TEXTS)
    lengths = sorted((len(ids) for ids in tokenizer(TEXTS)["input_ids"]), reverse=True)
    assert all(rows * length <= 48 for rows, length in shapes) and max(rows for rows, _ in shapes) > 2
    assert sum(rows for rows, _ in shapes) == len(TEXTS)
    assert [length for rows, length in shapes] == sorted((length for _, length in shapes), reverse=True)
    assert sum(rows * length for rows, length in shapes) < 1.25 * sum(lengths)


def test_it_streams(backbone: Path, tokenizer: Any) -> None:
    taken = 0

    def endless() -> Iterator[str]:
        nonlocal taken
        while True:
            taken += 1
            yield TEXTS[taken % len(TEXTS)]

    answers = Predictor(model_with(backbone), tokenizer, precision="fp32", window=4)(endless())
    first = next(answers)
    assert first["label"] in ("bad", "so", "good") and taken <= 8
    for _ in range(20):
        next(answers)
    assert taken <= 28
    answers.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("precision", ["own", "fp32", "bf16", "int8"])
@pytest.mark.parametrize("config", ["seq_bn[reduction_factor=4]", "lora[r=4]"])
def test_the_model_stays_as_it_was(backbone: Path, tokenizer: Any, precision: Any, config: str) -> None:
    model = model_with(backbone, config).train()
    model.add_adapter("idle")
    before = copy.deepcopy(model.state_dict())
    kinds = [type(module) for module in model.modules()]
    Predictor(model, tokenizer, precision=precision).predict(TEXTS[:3])
    assert model.training and all(module.training for module in model.modules())
    assert "idle" in model.adapters and list(model.active_adapters.flatten()) == ["a"]
    assert [type(module) for module in model.modules()] == kinds and model.merged_adapter is None
    after = model.state_dict()
    assert list(after) == list(before) and all(torch.equal(after[name], before[name]) for name in before)
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


def test_what_becomes_of_the_model_later_does_not_matter(backbone: Path, tokenizer: Any) -> None:
    model = model_with(backbone)
    predictor = Predictor(model, tokenizer, precision="bf16")
    before = predictor.predict(TEXTS)
    model.set_active_adapters(None)
    model.delete_adapter("a")
    model.delete_head("a")
    assert predictor.predict(TEXTS) == before


def test_adapters_on_weights_alone_are_merged(backbone: Path, tokenizer: Any) -> None:
    lora, bottleneck = model_with(backbone, "lora[r=4]"), model_with(backbone)
    merged = Predictor(lora, tokenizer, precision="fp32")
    assert merged.model.active_adapters is None and not merged.model.engine._hooks
    check(merged.predict(TEXTS), lora, tokenizer, 1e-5)
    assert list(Predictor(bottleneck, tokenizer, precision="fp32").model.active_adapters.flatten()) == ["a"]
    lora.set_active_adapters("a", skip_layers=[0])
    skipping = Predictor(lora, tokenizer, precision="fp32")
    assert skipping.model.active_adapters is not None
    check(skipping.predict(TEXTS), lora, tokenizer, 1e-5)


def test_what_is_the_same_is_shared(backbone: Path, tokenizer: Any) -> None:
    model = model_with(backbone)
    own = {parameter.data_ptr() for parameter in model.parameters()}

    def common(precision: Any) -> set[int]:
        return own & {one.data_ptr() for one in Predictor(model, tokenizer, precision=precision).model.parameters()}

    assert common("fp32") == own == common("int8")
    added = (*model.heads.parameters(), *model.adapters.parameters())
    assert common("bf16") == {parameter.data_ptr() for parameter in added}


def test_the_precision_is_that_of_the_machine(backbone: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_with(backbone)
    cpu = torch.device("cpu")

    def chosen(bf16: bool, vnni: bool) -> Any:
        monkeypatch.setattr(precisions, "best_precision", lambda: "bf16" if bf16 else "fp32")
        monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: vnni, raising=False)
        return precisions.inference_precision(model, "auto", cpu)

    assert [chosen(True, True), chosen(False, True), chosen(False, False)] == ["bf16", "int8", "fp32"]
    assert precisions.inference_precision(model.to(torch.bfloat16), "auto", cpu) is None
    assert precisions.inference_precision(model_with(backbone), "own", cpu) is None


def test_int8_is_the_equation() -> None:
    torch.manual_seed(0)
    linear = torch.nn.Linear(37, 19)
    inputs = torch.randn(2, 5, 37)
    inputs[0, 0] = 0  # a row without a scale
    codes, scale = rounded(linear.weight)
    assert codes.dtype == torch.int8 and codes.abs().amax(1).eq(127).all()
    assert ((codes * scale - linear.weight).abs() <= scale / 2 + 1e-7).all()
    seen, steps = rounded(inputs.flatten(0, 1))
    wanted = ((seen.double() * steps) @ (codes.double() * scale).T + linear.bias).view(2, 5, 19)
    with torch.no_grad():
        given = Int8Forward(linear.weight, linear.bias)(inputs)
        torch.testing.assert_close(given, wanted.float(), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(given, linear(inputs), rtol=0, atol=0.05)
        torch.testing.assert_close(Int8Forward(linear.weight, None)(inputs), given - linear.bias, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", ["gpt2", "roberta", "t5", "deberta-v2"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_other_architectures(family: str, precision: Any, tokenizer: Any) -> None:
    """Right padding, no padding token, positions that count from the padding: a row has the answer it has alone."""
    prefix = tiny.FAMILIES[family][0]
    model = getattr(adapterhub, f"{prefix}AdapterModel")(tiny.config(family)).eval()
    model.add_adapter("a", set_active=True)
    model.add_classification_head("a", num_labels=2)
    own = copy.deepcopy(tokenizer)
    own.model_input_names = ["input_ids", "attention_mask"]
    own.pad_token = None if family == "gpt2" else own.pad_token
    answers = Predictor(model, own, precision=precision, max_length=20).predict(TEXTS)
    for text, answer in zip(TEXTS[::6], answers[::6], strict=True):
        inputs = own(text, return_tensors="pt", truncation=True, max_length=20)
        with torch.no_grad():
            scores = model(**inputs).logits.softmax(-1)[0]
        index = int(answer["label"].removeprefix("LABEL_"))
        assert answer["score"] == pytest.approx(scores[index].item(), abs=1e-5 if precision == "fp32" else 0.02)


def test_compiled_plans_are_few(backbone: Path, tokenizer: Any) -> None:
    model = model_with(backbone)
    torch.compiler.reset()
    shapes = set()

    def backend(graph: Any, inputs: Any) -> Any:
        shapes.add(tuple(one.shape for one in inputs if isinstance(one, torch.Tensor) and one.dtype == torch.long))
        return graph.forward

    predictor = Predictor(model, tokenizer, precision="fp32", token_budget=96, compile=True)
    predictor.model.compile(backend=backend, dynamic=False, fullgraph=True)
    check(predictor.predict(TEXTS), model, tokenizer, 1e-5)
    check(predictor.predict(TEXTS[::-1])[::-1], model, tokenizer, 1e-5)
    assert len(shapes) == 2  # rows of 16 tokens, and of 32


def test_a_batch_that_memory_has_no_room_for_is_halved(backbone: Path, tokenizer: Any) -> None:
    model = model_with(backbone)
    predictor = Predictor(model, tokenizer, precision="fp32")
    forward, room = predictor.model.forward, 3

    def narrow(**inputs: Any) -> Any:
        if len(inputs["input_ids"]) > room:
            raise torch.OutOfMemoryError("no room")
        return forward(**inputs)

    predictor.model.forward = narrow
    check(predictor.predict(TEXTS), model, tokenizer, 1e-5)
    room = 0
    with pytest.raises(torch.OutOfMemoryError):
        predictor.predict(TEXTS)


def test_a_model_with_the_head_of_its_class(tokenizer: Any) -> None:
    model = adapterhub.init(tiny.model("bert", "ForSequenceClassification", num_labels=3))
    model.add_adapter("a", set_active=True)
    for precision in ("fp32", "bf16", "int8"):
        answers = Predictor(model, tokenizer, precision=precision).predict(TEXTS)
        for text, answer in zip(TEXTS, answers, strict=True):
            assert answer["score"] == pytest.approx(alone(model, tokenizer, text).max().item(), abs=0.02)


def test_an_adapter_of_another_setup_block_plays_no_part(backbone: Path, tokenizer: Any) -> None:
    model = model_with(backbone)
    wanted = Predictor(model, tokenizer, precision="fp32").predict(TEXTS)
    with adapterhub.AdapterSetup(None):
        assert Predictor(model, tokenizer, precision="fp32").predict(TEXTS) == wanted


def test_a_quantised_model_stays_as_it_is(backbone: Path, tokenizer: Any) -> None:
    quantisation = pytest.importorskip("torchao.quantization")
    model = model_with(backbone)
    quantisation.quantize_(model.encoder, quantisation.Int8WeightOnlyConfig())
    predictor = Predictor(model, tokenizer)
    assert predictor.precision is None
    weight = model.encoder.layer[0].output.dense.weight
    assert predictor.model.encoder.layer[0].output.dense.weight is weight
    check(predictor.predict(TEXTS), model, tokenizer, 1e-5)
    with pytest.raises(ConfigError, match="quantised"):
        Predictor(model, tokenizer, precision="bf16")


@pytest.mark.cuda
@pytest.mark.parametrize("compile", [False, True])
def test_on_a_gpu(backbone: Path, tokenizer: Any, compile: bool) -> None:
    model = model_with(backbone)
    predictor = Predictor(model, tokenizer, compile=compile, token_budget=128)
    assert predictor.device.type == "cuda" and model.device.type == "cpu"
    for _ in range(3):  # graphs are recorded in the second pass, and played in the third
        check(predictor.predict(TEXTS), model, tokenizer, 0.03)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"precision": "fp64"}, "precision is one of"),
        ({"token_budget": 0}, "token_budget is at least 1"),
        ({"window": 0}, "window is at least 1"),
        ({"max_length": 0}, "max_length is at least 1"),
        ({"precision": "int8", "device": "meta"}, "int8 is for processors"),
    ],
)
def test_options_that_cannot_be(backbone: Path, tokenizer: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Predictor(model_with(backbone), tokenizer, **options)


def test_heads_that_cannot_be(backbone: Path, tokenizer: Any) -> None:
    model = model_with(backbone)
    model.add_causal_lm_head("lm")
    with pytest.raises(HeadError, match=r"causal_lm.*model\.generate"):
        Predictor(model, tokenizer)
    model.active_head = ["a", "lm"]
    with pytest.raises(HeadError, match="one head has to be active"):
        Predictor(model, tokenizer)
    model.active_head = None
    with pytest.raises(HeadError, match="one head has to be active"):
        Predictor(model, tokenizer)
    with pytest.raises(HeadError, match="BertModel"):
        Predictor(adapterhub.init(transformers.BertModel(tiny.config("bert"))), tokenizer)


def test_texts_that_cannot_be(backbone: Path, tokenizer: Any) -> None:
    predictor = Predictor(model_with(backbone), tokenizer, window=2)
    for given in ([3], [("a", "b", "c")], [{"words": "a"}], [["a", 3]]):
        with pytest.raises(DataError, match="a text is needed"):
            predictor.predict(given)
    with pytest.raises(DataError, match="cannot be mixed"):
        predictor.predict(["a", ("a", "b")])
    answers = predictor(["a", "the film", "is", 3])
    assert [next(answers)["label"], next(answers)["label"]]  # what came before is answered
    with pytest.raises(DataError):
        next(answers)
    assert predictor.predict([]) == []
