"""Hidden states that are kept: the same training as without, in memory and in files, and nothing stale."""

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoTokenizer, DataCollatorForLanguageModeling, DataCollatorWithPadding
from transformers.trainer_callback import TrainerCallback

import tiny
from adapterhub import AdapterTrainer, AutoAdapterModel, TrunkCache
from adapterhub.engine import Trunk
from adapterhub.errors import ConfigError, CorruptCheckpointError, TrainingError, TrunkError
from adapterhub.training.trunk_cache import RowStates
from tokens import model_folder, sentences
from trainings import arguments, assert_equal, weights

TOP = "seq_bn[reduction_factor=4,leave_out=[0]]"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def data(folder: Path) -> list[dict[str, Any]]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    said = sentences(48)
    return [{**tokenizer(" ".join([row["text"]] * (1 + n % 5))), "labels": row["label"]} for n, row in enumerate(said)]


def build(folder: Path, config: str = TOP) -> Any:
    """Without dropout, which would set what runs plainly apart from what runs on kept states."""
    torch.manual_seed(0)
    still = AutoConfig.from_pretrained(folder, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model = AutoAdapterModel.from_pretrained(folder, config=still)
    model.add_adapter("a", config=config)
    model.add_classification_head("a", num_labels=2)
    tiny.randomise(model, "a", 0.05)
    model.train_adapter("a")
    return model


def trainer(folder: Path, output: Path, data: Any, cache: Any = False, model: Any = None, **changes: Any) -> Any:
    callbacks = changes.pop("callbacks", None)
    collate = changes.pop("collate", None) or DataCollatorWithPadding(AutoTokenizer.from_pretrained(folder))
    return AdapterTrainer(
        model=model or build(folder),
        args=arguments(output, **({"eval_strategy": "epoch"} | changes)),
        train_dataset=data,
        eval_dataset=[data[number] for number in range(16)],
        data_collator=collate,
        callbacks=callbacks,
        trunk_cache=cache,
    )


def losses(trained: Any) -> list[float]:
    return [entry[name] for entry in trained.state.log_history for name in ("loss", "eval_loss") if name in entry]


def count_calls(model: Any) -> list[int]:
    """The rows that layer 0 computes from now on."""
    seen: list[int] = []
    model.encoder.layer[0].attention.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    return seen


@pytest.mark.parametrize("where", ["memory", "folder"])
def test_training_on_kept_states_is_training(where: str, folder: Path, data: Any, tmp_path: Path) -> None:
    plain = trainer(folder, tmp_path / "plain", data)
    plain.train()
    cache = TrunkCache(tmp_path / "cache" if where == "folder" else None, dtype=torch.float32)
    cached = trainer(folder, tmp_path / "cached", data, cache)
    seen = count_calls(cached.model)
    cached.train()
    # In two epochs each row of the training data and of the validation once, after one in a look at the model.
    assert sum(seen) == 1 + len(data) + 16
    assert losses(cached) == pytest.approx(losses(plain), abs=1e-5)
    assert_equal(weights(cached.model), weights(plain.model), 1e-4)
    assert cached.model.engine.trunk is None
    assert cached.evaluate()["eval_loss"] == pytest.approx(plain.evaluate()["eval_loss"], abs=1e-5)


def test_a_base_in_bfloat16_and_batches_by_tokens_train_on_kept_states(folder: Path, data: Any, tmp_path: Path) -> None:
    plain, cached = (
        trainer(folder, tmp_path / str(cache), data, cache, bf16=True, per_device_train_batch_size=4)
        for cache in (False, True)
    )
    for one in (plain, cached):
        one.tokens_per_batch, one.base_dropout = "auto", False
    alone = trainer(folder, tmp_path / "alone", data, True, plain.model, bf16=True).evaluate()["eval_loss"]
    assert alone == pytest.approx(plain.evaluate()["eval_loss"], abs=1e-3)
    seen = count_calls(cached.model)
    for one in (plain, cached):
        one.train()
    assert sum(seen) == 1 + len(data) + 16
    assert losses(cached) == pytest.approx(losses(plain), abs=0.01)
    assert cached.evaluate()["eval_loss"] == pytest.approx(plain.evaluate()["eval_loss"], abs=0.01)
    assert cached.model.embeddings.LayerNorm.weight.dtype == torch.float32


def test_bfloat16_is_the_default_and_near(folder: Path, data: Any, tmp_path: Path) -> None:
    plain, cached = trainer(folder, tmp_path / "1", data), trainer(folder, tmp_path / "2", data, True)
    plain.train()
    cached.train()
    assert losses(cached) == pytest.approx(losses(plain), abs=0.05)
    assert losses(cached) != losses(plain)


def test_a_file_is_found_again_by_other_runs_and_by_no_others(folder: Path, data: Any, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = trainer(folder, tmp_path / "1", data, cache)
    first.train()
    again = trainer(folder, tmp_path / "2", data, str(cache), learning_rate=1e-3, seed=7)
    seen = count_calls(again.model)
    again.train()
    assert seen == [1] and len(list(cache.glob("*/states.safetensors"))) == 2  # training data, and validation
    other = build(folder)
    with torch.no_grad():
        other.embeddings.LayerNorm.bias.add_(0.1)
    for changed in (
        trainer(folder, tmp_path / "3", data, cache, other),
        trainer(folder, tmp_path / "4", [*data[:-1], {**data[0], "labels": data[-1]["labels"]}], cache),
        trainer(folder, tmp_path / "5", data, TrunkCache(cache, dtype=torch.float32)),
    ):
        seen = count_calls(changed.model)
        changed.train()
        assert sum(seen) >= len(data)


def test_labels_play_no_part_in_the_states(folder: Path, data: Any, tmp_path: Path) -> None:
    trainer(folder, tmp_path / "1", data, tmp_path / "cache").train()
    flipped = trainer(folder, tmp_path / "2", [{**r, "labels": 1 - r["labels"]} for r in data], tmp_path / "cache")
    seen = count_calls(flipped.model)
    flipped.train()
    assert seen == [1]


def test_what_was_broken_off_is_gone_on_with(
    folder: Path, data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapterhub.training.trunk_cache._NOTED_EVERY", 0.0)
    monkeypatch.setattr("adapterhub.training.trunk_cache._TOKENS", 32)
    collate = DataCollatorWithPadding(AutoTokenizer.from_pretrained(folder))
    calls = 0

    def stop(done: float, total: float, what: str) -> None:
        nonlocal calls
        calls += 1
        assert total == len(data) and "MB" in what
        if calls == 5:
            raise KeyboardInterrupt

    model = build(folder)
    with pytest.raises(KeyboardInterrupt):
        TrunkCache(tmp_path, progress=stop).keep(Trunk(model), data, collate)
    assert not list(tmp_path.glob("*/states.safetensors"))
    seen = count_calls(model)
    kept = TrunkCache(tmp_path).keep(Trunk(model), data, collate)
    assert 0 < sum(seen) < len(data)
    whole = TrunkCache().keep(Trunk(model), data, collate)
    assert torch.equal(kept.states, whole.states)
    assert [path.name for path in next(tmp_path.iterdir()).iterdir()] == ["states.safetensors"]
    check_alone(model, data, kept)


def check_alone(model: Any, data: Sequence[Any], kept: RowStates) -> None:
    """Each row's states are those that it has alone."""
    model.set_active_adapters(None)
    for number, row in enumerate(data):
        inputs = {name: torch.tensor([row[name]]) for name in ("input_ids", "attention_mask")}
        with torch.no_grad():
            wanted = model.eval()(**inputs, output_hidden_states=True).hidden_states[1][0]
        torch.testing.assert_close(kept[number].float(), wanted, atol=0.02, rtol=0.02)


def test_rows_that_are_padded_already_keep_the_states_of_their_text(folder: Path, data: Any, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    padded = [dict(tokenizer.pad(dict(row), padding="max_length", max_length=30)) for row in data]
    model = build(folder)
    kept = TrunkCache(dtype=torch.float32).keep(Trunk(model), padded, DataCollatorWithPadding(tokenizer))
    assert len(kept.states) == sum(len(row["input_ids"]) for row in data)
    check_alone(model, data, kept)
    plain, cached = trainer(folder, tmp_path / "1", padded), trainer(folder, tmp_path / "2", padded, True)
    plain.train()
    cached.train()
    assert losses(cached) == pytest.approx(losses(plain), abs=0.05)


def test_images_have_states_of_one_length() -> None:
    model = AutoAdapterModel.from_config(tiny.config("vit"))
    model.add_adapter("a", config=TOP)
    model.train_adapter("a")
    images = [{"pixel_values": torch.randn(3, 16, 16), "labels": 0} for _ in range(5)]
    kept = TrunkCache(dtype=torch.float32).keep(
        Trunk(model), images, lambda rows: {"pixel_values": torch.stack([row["pixel_values"] for row in rows])}
    )
    assert kept[3].shape == (5, 32)
    torch.testing.assert_close(kept[3], Trunk(model).states(pixel_values=images[3]["pixel_values"][None])[0])


class Changing(torch.utils.data.Dataset):
    """Rows of which one is another each time that it is asked for."""

    def __init__(self, rows: list[Any]) -> None:
        self.rows, self.asked = rows, 0

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> Any:
        self.asked += number == 3
        ids = self.rows[number]["input_ids"]
        return {**self.rows[number], "input_ids": [*ids[:-1], 5 + self.asked] if number == 3 else ids}


def test_what_changes_from_epoch_to_epoch_is_refused(folder: Path, data: Any, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="row 3 is not what it was"):
        trainer(folder, tmp_path / "1", Changing(data), True, eval_strategy="no").train()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.mask_token = tokenizer.unk_token
    masking = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.5)

    def collate(batch: list[Any]) -> Any:
        labels = torch.tensor([row["labels"] for row in batch])
        plain = [{name: row[name] for name in ("input_ids", "attention_mask")} for row in batch]
        return {**masking(plain), "labels": labels}

    with pytest.raises(TrainingError, match="changes the tokens"):
        trainer(folder, tmp_path / "2", data, True, collate=collate, eval_strategy="no").train()


def test_no_room_and_no_layers_are_told_before_anything_is_computed(folder: Path, data: Any, tmp_path: Path) -> None:
    for cache in (TrunkCache(limit=1000), TrunkCache(tmp_path / "cache", limit=1000)):
        small = trainer(folder, tmp_path, data, cache)
        seen = count_calls(small.model)
        with pytest.raises(TrainingError, match=r"hidden states of 48 rows below layer 1: 0\.\d MB, and the limit"):
            small.train()
        assert seen == [1] and small.model.engine.trunk is None
    with pytest.raises(TrunkError, match="no layer can be left out"):
        trainer(folder, tmp_path, data, True, build(folder, "seq_bn[reduction_factor=4]")).train()
    with pytest.raises(ConfigError, match="kept as one of"):
        TrunkCache(dtype=torch.int8)


def test_a_file_that_is_another_is_refused(folder: Path, data: Any, tmp_path: Path) -> None:
    trainer(folder, tmp_path / "1", data, tmp_path / "cache").train()
    for path in (tmp_path / "cache").glob("*/states.safetensors"):
        header = json.dumps({"states": {"dtype": "BF16", "shape": [1, 32], "data_offsets": [0, 64]}}).encode()
        path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(64))
    with pytest.raises(CorruptCheckpointError, match="Delete it"):
        trainer(folder, tmp_path / "2", data, tmp_path / "cache").train()


def test_an_interrupted_training_resumes_on_kept_states(folder: Path, data: Any, tmp_path: Path) -> None:
    class Halt(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            control.should_training_stop = state.global_step == 8

    whole = trainer(folder, tmp_path / "1", data, tmp_path / "cache")
    whole.train()
    trainer(folder, tmp_path / "2", data, tmp_path / "cache", callbacks=[Halt()]).train()
    rest = trainer(folder, tmp_path / "2", data, tmp_path / "cache")
    rest.train(resume_from_checkpoint=str(tmp_path / "2" / "checkpoint-8"))
    assert_equal(weights(rest.model), weights(whole.model))
