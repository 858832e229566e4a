"""Batches filled up to a budget of tokens: every row once, none too large, the same when resumed."""

import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import AutoTokenizer, DataCollatorWithPadding

from adapterhub import AdapterTrainer
from adapterhub.errors import TrainingError
from adapterhub.training.batches import TokenBatches, token_budget
from trainings import arguments, assert_equal, build, losses, rows, trainer, weights


@pytest.fixture
def lengths() -> list[int]:
    draw = random.Random(0)
    return [draw.randint(3, 60) for _ in range(500)]


@pytest.mark.parametrize(("tokens", "most"), [(300, None), (300, 6), (40, None)])
def test_every_row_is_in_one_batch_within_the_budget(lengths: list[int], tokens: int, most: int | None) -> None:
    batches = list(TokenBatches(lengths, tokens, most_rows=most))
    assert sorted(row for batch in batches for row in batch) == list(range(500))
    for batch in batches:
        longest = max(lengths[row] for row in batch)
        assert len(batch) * longest <= tokens or len(batch) == 1
        assert most is None or len(batch) <= most
    spans = sorted((min(lengths[row] for row in batch), max(lengths[row] for row in batch)) for batch in batches)
    assert all(one[1] <= other[0] for one, other in pairwise(spans)), "rows of like length share a batch"
    if most is None and tokens == 300:
        padded = sum(len(batch) * max(lengths[row] for row in batch) for batch in batches)
        assert padded < 1.03 * sum(lengths)


def test_the_order_is_that_of_seed_and_epoch_alone(lengths: list[int]) -> None:
    def order(seed: int, epoch: int) -> list[list[int]]:
        batches = TokenBatches(lengths, 300, seed=seed)
        list(batches)  # what was drawn before does not matter
        torch.rand(3)
        batches.set_epoch(epoch)
        assert len(list(batches)) == len(batches) == len(TokenBatches(lengths, 300))
        return list(batches)

    assert order(1, 0) == order(1, 0) != order(1, 1) != order(5, 0)
    assert {tuple(sorted(batch)) for batch in order(1, 0)} != {tuple(sorted(batch)) for batch in order(1, 1)}


@pytest.mark.parametrize("mean", [2, 7, 32, 499, 600])
def test_the_least_budget_with_which_batches_have_so_many_rows(lengths: list[int], mean: int) -> None:
    budget, wanted = token_budget(lengths, mean), -(-500 // mean)
    assert len(TokenBatches(lengths, budget, most_rows=2 * mean)) <= wanted
    assert len(TokenBatches(lengths, budget - 1, most_rows=2 * mean)) > wanted


def test_what_cannot_be_is_refused(backbone: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="0 tokens"):
        TokenBatches([3], 0)
    with pytest.raises(TrainingError, match="no rows"):
        token_budget([], 8)
    data = [{"pixel_values": torch.zeros(3), "labels": 0}] * 4
    with pytest.raises(TrainingError, match="'input_ids', which say how long"):
        AdapterTrainer(build(backbone), arguments(tmp_path), train_dataset=data, tokens_per_batch=64).train()


def filled(backbone: Path, output: Path, tokens: Any, **changes: Any) -> AdapterTrainer:
    """A trainer of rows of 3 to 6 tokens, in a data set with a column that no model takes."""
    tokenizer = AutoTokenizer.from_pretrained(backbone)
    cut = [
        {name: values if name == "labels" else values[: 3 + place % 4] for name, values in row.items()}
        for place, row in enumerate(rows(backbone))
    ]
    data = Dataset.from_list(cut).add_column("unused", ["text"] * len(cut))
    collator, model = DataCollatorWithPadding(tokenizer), build(backbone)
    return AdapterTrainer(model, arguments(output, **changes), collator, data, tokens_per_batch=tokens)


def test_a_trainer_fills_its_batches(backbone: Path, tmp_path: Path) -> None:
    shapes = [batch["input_ids"].shape for batch in filled(backbone, tmp_path, 40).get_train_dataloader()]
    assert all(count * length <= 40 for count, length in shapes)
    assert sum(count for count, _ in shapes) == 48 and {length for _, length in shapes} == {3, 4, 5, 6}
    mean = filled(backbone, tmp_path, "auto")
    assert len(mean.get_train_dataloader()) <= 6  # 48 rows, 8 a batch
    mean.train()
    assert mean.state.max_steps == 2 * len(mean.get_train_dataloader()) == mean.state.global_step


@pytest.mark.parametrize("at", [3, 8])  # within the first epoch, and within the second
def test_an_interrupted_epoch_goes_on_with_its_own_batches(backbone: Path, tmp_path: Path, at: int) -> None:
    whole = filled(backbone, tmp_path / "whole", "auto", save_steps=1)
    whole.train()
    resumed = filled(backbone, tmp_path / "resumed", "auto")
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / f"checkpoint-{at}"))
    assert losses(resumed) == losses(whole)
    assert_equal(weights(resumed.model), weights(whole.model))


def test_batches_know_the_epoch_that_is_gone_on_with(backbone: Path, tmp_path: Path) -> None:
    """Whatever is put around them: accelerate does not reach them within what divides and what skips batches."""
    done = filled(backbone, tmp_path, "auto")
    batches = done.get_train_dataloader().batch_sampler
    done.state.epoch = 1.5
    done.callback_handler.on_epoch_begin(done.args, done.state, done.control)
    assert isinstance(batches, TokenBatches) and batches.epoch == 1


def test_processes_take_as_many_batches_each(lengths: list[int]) -> None:
    from accelerate.data_loader import BatchSamplerShard

    batches = TokenBatches(lengths, 300)
    shards = [BatchSamplerShard(TokenBatches(lengths, 300), 4, rank) for rank in range(4)]
    parts = [list(shard) for shard in shards]
    assert {len(part) for part in parts} == {-(-len(batches) // 4)} == {len(shard) for shard in shards}
    taken = {tuple(batch) for part in parts for batch in part}
    assert taken == {tuple(batch) for batch in batches}


def test_rows_fill_batches_of_both_kinds_of_trainer(backbone: Path, tmp_path: Path) -> None:
    plain = trainer(backbone, tmp_path)
    assert [len(batch["input_ids"]) for batch in plain.get_train_dataloader()] == [8] * 6
