"""Scripts as users of ``adapters`` write them, with another import."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification, HfArgumentParser, Trainer, TrainingArguments

import adapterhub as adapters
import tiny
import tokens
from adapterhub import AdapterArguments, AdapterConfig, AdapterSetup, AdapterTrainer, AutoAdapterModel
from adapterhub.composition import Average, Fuse, Parallel, Stack
from adapterhub.errors import ConfigError, TrainingError


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a tokenizer, as ``from_pretrained`` reads them."""
    return tokens.model_folder(tmp_path_factory.mktemp("base"))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    yield


def rows(folder: Path, count: int = 32) -> list[dict[str, Any]]:
    tokenizer = tokens.tokenizer(folder)
    return [{**tokenizer(row["text"]), "labels": row["label"]} for row in tokens.sentences(count)]


def arguments(**changes: Any) -> TrainingArguments:
    values = {"num_train_epochs": 1, "learning_rate": 1e-2, "report_to": [], "use_cpu": True, "logging_steps": 2}
    return TrainingArguments("output", per_device_train_batch_size=8, **(values | changes))


def ids() -> Tensor:
    return tiny.inputs("bert")["input_ids"] % 30


def test_a_classifier_is_trained(base: Path) -> None:
    model = AutoAdapterModel.from_pretrained(base)
    config = adapters.BnConfig(mh_adapter=True, output_adapter=True, reduction_factor=4, non_linearity="relu")
    model.add_adapter("bottleneck_adapter", config=config)
    model.add_classification_head("bottleneck_adapter", num_labels=2, id2label={0: "bad", 1: "good"})
    model.train_adapter("bottleneck_adapter")
    dataset, before = rows(base), {name: value.clone() for name, value in model.state_dict().items()}
    trainer = AdapterTrainer(
        model=model,
        args=arguments(num_train_epochs=2),
        train_dataset=dataset,
        eval_dataset=dataset,
        compute_metrics=lambda given: {"acc": float((given.predictions.argmax(-1) == given.label_ids).mean())},
    )
    trainer.train()
    assert 0 <= trainer.evaluate()["eval_acc"] <= 1
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert {name.partition(".")[0] for name in changed} == {"adapters", "heads"}
    model.save_adapter("./final", "bottleneck_adapter", use_safetensors=True)
    again = AutoAdapterModel.from_pretrained(base)
    information: dict[str, Any] = {}
    name = again.load_adapter("./final", load_as="mine", set_active=True, loading_info=information)
    assert name == "mine" and again.active_adapters == Stack("mine") and again.active_head == "mine"
    assert information == {"missing_keys": [], "unexpected_keys": []}
    again.eval()
    model.eval()
    assert torch.equal(again(ids()).logits, model(ids()).logits)
    assert again.adapter_summary(as_dict=True)[0]["name"] == "mine"


def test_languages_are_stacked(base: Path) -> None:
    model = AutoAdapterModel.from_pretrained(base)
    lang_adapter_config = AdapterConfig.load("seq_bn_inv", reduction_factor=2)
    for language in ("en", "zh"):
        model.add_adapter(language, config=lang_adapter_config)
    model.add_adapter("copa", config=AdapterConfig.load("seq_bn[reduction_factor=4]"))
    model.add_multiple_choice_head("copa", num_choices=2)
    model.train_adapter(["copa"])
    model.active_adapters = Stack("en", "copa")
    trained = {name.split(".")[1] for name, one in model.named_parameters() if one.requires_grad}
    assert trained == {"copa"}
    choices = ids()[:2].view(1, 2, -1)
    model(choices, labels=torch.tensor([1])).loss.backward()
    assert all(one.grad is None for one in model.adapters["en"].parameters())
    model.active_adapters = Stack("zh", "copa")
    with torch.no_grad():
        chinese = model(choices).logits
        with AdapterSetup(Stack("en", "copa")):
            english = model(choices).logits
    assert chinese.shape == (1, 2) and not torch.equal(chinese, english)
    assert adapters.composition.parse_composition(["en", "copa"]) == Stack("en", "copa")


def test_adapters_are_fused(base: Path) -> None:
    model = AutoAdapterModel.from_pretrained(base)
    for name in ("multinli", "qqp", "qnli"):
        model.add_adapter(name, config="pfeiffer")
    adapter_setup = Fuse("multinli", "qqp", "qnli")
    model.add_adapter_fusion(adapter_setup)
    model.add_classification_head("cb", num_labels=2)
    model.set_active_adapters(adapter_setup)
    model.train_adapter_fusion(adapter_setup)
    AdapterTrainer(model=model, args=arguments(), train_dataset=rows(base, 16)).train()
    model.eval()
    found = model(ids(), output_adapter_fusion_attentions=True)
    attention = found.adapter_fusion_attentions["multinli,qqp,qnli"][0]["output_adapter"]
    torch.testing.assert_close(attention.sum(-1), torch.ones(attention.shape[:2]))
    model.save_adapter_fusion("./saved", "multinli,qqp,qnli")
    model.save_all_adapters("./saved")
    again = AutoAdapterModel.from_pretrained(base)
    for name in ("multinli", "qqp", "qnli"):
        again.load_adapter(f"./saved/{name}")
    again.load_adapter_fusion("./saved", set_active=True)
    again.eval()
    torch.testing.assert_close(
        again(ids()).last_hidden_state, model(ids(), output_hidden_states=True).hidden_states[-1]
    )


def test_tasks_in_parallel(base: Path) -> None:
    model = AutoAdapterModel.from_pretrained(base).eval()
    for name, labels in (("qnli", 2), ("sst-2", 3)):
        model.add_adapter(name, config="lora[r=4]")
        model.add_classification_head(name, num_labels=labels)
    alone = []
    for name in ("qnli", "sst-2"):
        model.set_active_adapters(name)
        alone.append(model(ids()).logits)
    model.active_adapters = Parallel("qnli", "sst-2")
    assert model.has_parallel_adapters and list(model.active_head) == ["qnli", "sst-2"]
    output1, output2 = model(ids())
    torch.testing.assert_close([output1.logits, output2.logits], alone)


def test_averages(base: Path) -> None:
    model = AutoAdapterModel.from_pretrained(base).eval()
    for name in ("m", "n"):
        model.add_adapter(name, config="lora")
        model.add_classification_head(name, num_labels=2)
    model.average_adapter("avg", ["m", "n"], weights=[0.8, 0.2], combine_strategy="linear")
    model.average_head("avg", {"m": 0.8, "n": 0.2})
    one, other, mean = (dict(model.adapters[name].named_parameters()) for name in ("m", "n", "avg"))
    for path, parameter in mean.items():
        torch.testing.assert_close(parameter, 0.8 * one[path] + 0.2 * other[path])
    model.active_adapters = Average("m", "n", weights=[0.5, 0.5])
    model.merge_adapter("avg")
    model.reset_adapter()
    model.adapter_to("avg", "cpu", torch.float64)
    assert next(model.get_adapter("avg")[0]["selfattn_lora"].parameters()).dtype == torch.float64


def test_a_model_of_transformers(base: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=2)
    adapters.init(model)
    config = adapters.ConfigUnion(
        adapters.PrefixTuningConfig(prefix_length=4), adapters.ParBnConfig(reduction_factor=4)
    )
    model.add_adapter("a", config=config)
    model.add_adapter("b", config="prefix_tuning[flat=True,prefix_length=3]|lora[r=2]")
    model.train_adapter("a")
    assert model.get_labels() == ["LABEL_0", "LABEL_1"]
    trainer = Trainer(model, arguments(), train_dataset=rows(base, 16), callbacks=[adapters.AdapterTrainerCallback()])
    trainer.train()
    model.eval()
    model.save_pretrained("whole")
    again = adapters.load_model("whole", AutoModelForSequenceClassification).eval()
    again.set_active_adapters("a")
    assert torch.equal(again(ids()).logits, model(ids()).logits)
    assert "a" in again.adapters_config and again.adapters_config.get("b").configs[1]["r"] == 2
    model.freeze_model(False)
    with pytest.raises(TrainingError, match="not frozen"):
        trainer.train()


class Notes:
    """A loader of a person's own, which writes a file beside the weights."""

    def __init__(self) -> None:
        self.read: dict[str | None, str] = {}

    def save(self, save_directory: str, name: str) -> None:
        (Path(save_directory) / "notes.txt").write_text(f"of {name}")

    def load(self, save_directory: str, load_as: str | None = None, **kwargs: Any) -> None:
        self.read[load_as] = (Path(save_directory) / "notes.txt").read_text()


def test_loaders_of_a_persons_own(base: Path) -> None:
    model, notes = AutoAdapterModel.from_pretrained(base), Notes()
    for name in "ab":
        model.add_adapter(name)
    model.add_adapter_fusion("a,b")
    model.save_adapter("one", "a", custom_weights_loaders=[notes])
    model.save_all_adapters("all", custom_weights_loaders=[notes])
    model.save_adapter_fusion("fused", ["a", "b"], custom_weights_loaders=[notes])
    model.save_all_adapter_fusions("fusions", custom_weights_loaders=[notes])
    model.save_adapter_setup("setup", Stack("a", "b"), custom_weights_loaders=[notes])
    model.load_adapter("one", load_as="c", custom_weights_loaders=[notes])
    model.load_adapter("all/b", load_as="d", custom_weights_loaders=[notes])
    model.load_adapter_fusion("fused", load_as="f", custom_weights_loaders=[notes])
    assert notes.read == {"c": "of a", "d": "of b", "f": "of a,b"}
    assert Path("fusions/a,b/notes.txt").read_text() == "of a,b"
    other = AutoAdapterModel.from_pretrained(base)
    assert other.load_adapter_setup("setup", custom_weights_loaders=[notes])[0] == Stack("a", "b")
    assert notes.read["a"] == "of a"


def test_arguments_of_a_script(base: Path) -> None:
    parser = HfArgumentParser(AdapterArguments)
    (given,) = parser.parse_args_into_dataclasses(["--train_adapter", "--adapter_config", "seq_bn[reduction_factor=8]"])
    model = AutoAdapterModel.from_pretrained(base)
    assert adapters.setup_adapter_training(model, given, "task", {"leave_out": [1]}) == ("task", None)
    config = model.adapters_config.get("task")
    assert (config.reduction_factor, list(config.leave_out)) == (8, [1])
    assert model.active_adapters == Stack("task")
    assert all(one.requires_grad for one in model.adapters["task"].parameters())
    model.add_adapter("en", config="seq_bn_inv")
    model.save_all_adapters("saved")

    options = ["--train_adapter", "--load_adapter", "saved/task", "--load_lang_adapter", "saved/en"]
    (given,) = parser.parse_args_into_dataclasses(options)
    fresh = AutoAdapterModel.from_pretrained(base)
    assert adapters.setup_adapter_training(fresh, given, "mine") == ("mine", "en")
    assert fresh.active_adapters == Stack("en", "mine")
    assert {name.split(".")[1] for name, one in fresh.named_parameters() if one.requires_grad} == {"mine"}
    (given,) = parser.parse_args_into_dataclasses([])
    assert adapters.setup_adapter_training(fresh, given, "no") == (None, None) and "no" not in fresh.adapters
    with pytest.raises(TrainingError, match="--train_adapter"):
        adapters.setup_adapter_training(fresh, AdapterArguments(load_adapter="saved/task"), "no")


def test_configurations() -> None:
    config = AdapterConfig.load("lora[r=16,alpha=8]")
    assert (config.r, config["alpha"]) == (16, 8) and config.replace(r=4).r == 4
    assert AdapterConfig.load(config.to_dict()) == config
    Path("config.json").write_text(json.dumps(config.to_dict()))
    assert AdapterConfig.load("config.json") == config
    assert AdapterConfig.load(adapters.DEFAULT_ADAPTER_CONFIG, reduction_factor=2).reduction_factor == 2
    assert isinstance(AdapterConfig.load("prefix_tuning|par_bn"), adapters.ConfigUnion)
    assert adapters.AdapterFusionConfig.load("static").value is False
    assert adapters.AdapterMethod.get_from_config("seq_bn_inv") == ["invertible", "bottleneck"]
    assert adapters.AdapterMethod.get_from_config("prefix_tuning|ia3") == ["prefix_tuning", "lora"]
    with pytest.raises(ConfigError):
        AdapterConfig.load("lora[rank=16]")
    with pytest.raises(TypeError):
        adapters.LoRAConfig(rank=16)
    with pytest.raises(ValueError, match="unknown configuration"):
        AdapterConfig.load("nothing")


def test_classes_of_models() -> None:
    config = tiny.config("bert")
    assert adapters.ADAPTER_MODEL_MAPPING[type(config)] is adapters.BertAdapterModel
    model = adapters.BertAdapterModel(config)
    assert isinstance(model, adapters.ModelWithFlexibleHeadsAdaptersMixin)
    assert isinstance(model, adapters.ModelAdaptersMixin) and isinstance(model, adapters.EmbeddingAdaptersMixin)
    model.add_classification_head("a")
    assert isinstance(model.heads["a"], adapters.ClassificationHead)
    model.add_prediction_head(adapters.TaggingHead.of(model, "b", num_labels=3), set_active=False)
    assert model.active_head == "a" and model.get_labels("b") == ["LABEL_0", "LABEL_1", "LABEL_2"]
    assert issubclass(adapters.BertGenerationAdapterModel, adapters.ModelAdaptersMixin)
    block = adapters.AdapterCompositionBlock.from_dict(Stack("a", Parallel("b", "c")).to_dict())
    assert block == Stack("a", Parallel("b", "c")) and block.parallel_channels == 2
    adapters.validate_composition(block, level=1, model_type="clip")
    with pytest.raises(ValueError):
        adapters.validate_composition(Fuse("a", Parallel("b", "c")))


def test_a_head_by_itself(base: Path) -> None:
    model = AutoAdapterModel.from_pretrained(base).eval()
    model.add_classification_head("one", num_labels=2)
    model.add_tagging_head("two", num_labels=3)
    mask = torch.ones_like(ids())
    expected = model(ids(), mask, head="one", labels=torch.tensor([0, 1, 1]))
    model.active_head = None
    outputs = model(ids(), mask)
    assert model.forward_head(outputs) is outputs
    labels = torch.tensor([0, 1, 1])
    found = model.forward_head(outputs, "one", attention_mask=mask, return_dict=True, labels=labels)
    torch.testing.assert_close((found.loss, found.logits), (expected.loss, expected.logits))
    both = model.forward_head(outputs, ["one", "two"], attention_mask=mask, return_dict=True)
    assert [one.logits.shape[-1] for one in both.head_outputs] == [2, 3]
