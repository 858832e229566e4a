"""Trainers on tiny models: what they save, that they resume exactly, and what they refuse."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoTokenizer,
    DataCollatorWithPadding,
    PreTrainedModel,
    Seq2SeqTrainingArguments,
    Trainer,
    TrainerCallback,
)

import adapterhub
import tiny
from adapterhub import AdapterTrainer, AutoAdapterModel, DynamicAdapterFusionConfig, Fuse, Seq2SeqAdapterTrainer
from adapterhub.errors import TrainingError
from adapterhub.training.trainer import TrainingInterrupted
from tokens import model_folder
from trainings import arguments, assert_equal, build, losses, rows, trainer, weights


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_folder(tmp_path_factory.mktemp("model"))


def test_learns_and_leaves_the_base_alone(folder: Path, tmp_path: Path) -> None:
    model = build(folder)
    model.train_adapter("a", train_embeddings=True)  # random frozen embeddings leave little to learn from
    kept = [name for name in model.state_dict() if not name.startswith(("adapters", "heads", "embeddings.word"))]
    before = {name: model.state_dict()[name].clone() for name in kept}
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    few = rows(folder, 8)
    collator = DataCollatorWithPadding(AutoTokenizer.from_pretrained(folder))
    done = AdapterTrainer(
        model, arguments(tmp_path, num_train_epochs=60, learning_rate=5e-3, save_strategy="no"), collator, few
    )
    done.train()
    assert losses(done)[-1] < 0.75 * losses(done)[0]
    state = model.state_dict()
    assert all(torch.equal(state[name], value) for name, value in before.items())


def test_checkpoints_hold_what_trains_and_no_base(folder: Path, tmp_path: Path) -> None:
    trainer(folder, tmp_path).train()
    checkpoint = tmp_path / "checkpoint-4"
    assert (checkpoint / "a" / "adapter_config.json").exists()
    assert not list(checkpoint.glob("model*")) and not list(checkpoint.glob("pytorch_model*"))
    fresh = AutoAdapterModel.from_pretrained(folder)
    fresh.load_adapter(checkpoint / "a", set_active=True)
    assert fresh.active_head == "a"


@pytest.mark.parametrize("kind", [AdapterTrainer, Trainer])
def test_resuming_equals_an_uninterrupted_run(folder: Path, tmp_path: Path, kind: type) -> None:
    whole = trainer(folder, tmp_path / "whole", kind=kind)
    whole.train()
    trainer(folder, tmp_path / "cut", kind=kind).train()
    resumed = trainer(folder, tmp_path / "cut", kind=kind)
    resumed.train(resume_from_checkpoint=str(tmp_path / "cut" / "checkpoint-4"))
    assert losses(resumed)[4:] == losses(whole)[4:]
    assert_equal(weights(resumed.model), weights(whole.model))


def fused(folder: Path) -> PreTrainedModel:
    model = build(folder)
    model.add_adapter("b", config="seq_bn[reduction_factor=4]")
    config = DynamicAdapterFusionConfig(temperature=True, dropout_prob=0.1)
    model.add_adapter_fusion(["a", "b"], config=config, name="mine")
    model.train_adapter_fusion(Fuse("a", "b", name="mine"))
    model.active_head = "a"
    return model


def test_a_named_fusion_resumes_with_its_temperature(folder: Path, tmp_path: Path) -> None:
    whole = trainer(folder, tmp_path / "whole", fused(folder))
    whole.train()
    trainer(folder, tmp_path / "cut", fused(folder)).train()
    resumed = trainer(folder, tmp_path / "cut", fused(folder))
    resumed.train(resume_from_checkpoint=str(tmp_path / "cut" / "checkpoint-4"))
    assert losses(resumed)[4:] == losses(whole)[4:]
    assert_equal(resumed.model.fusions.state_dict(), whole.model.fusions.state_dict())


def test_values_of_a_fusion_do_not_decay(folder: Path, tmp_path: Path) -> None:
    """They begin at the identity, and their regulariser keeps them near it."""
    model = fused(folder)
    started = trainer(folder, tmp_path, model, weight_decay=0.5)
    groups = {
        id(parameter): group["weight_decay"]
        for group in started.create_optimizer().param_groups
        for parameter in group["params"]
    }
    decay = {
        name.split(".")[-2]: groups[id(parameter)]
        for name, parameter in model.fusions.named_parameters()
        if name.endswith(".weight")
    }
    assert decay == {"query": 0.5, "key": 0.5, "value": 0.0}


@pytest.mark.parametrize("kind", [AdapterTrainer, Trainer])
def test_the_best_model_comes_back(folder: Path, tmp_path: Path, kind: type) -> None:
    seen: dict[int, dict[str, Tensor]] = {}

    class Keep(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **kwargs):  # type: ignore[no-untyped-def]
            seen[state.global_step] = weights(model)

    best = {"eval_strategy": "steps", "eval_steps": 4, "load_best_model_at_end": True}
    # After a few steps at a rate so high, the loss goes up again: the best step is not the last.
    done = trainer(
        folder, tmp_path, kind=kind, callbacks=[Keep()], learning_rate=0.2, lr_scheduler_type="constant", **best
    )
    done.train()
    step = int(str(done.state.best_model_checkpoint).rpartition("-")[2])
    assert_equal(weights(done.model), seen[step])


def test_embeddings_that_train_are_kept_too(folder: Path, tmp_path: Path) -> None:
    model = build(folder)
    model.train_adapter("a", train_embeddings=True)
    done = trainer(folder, tmp_path, model)
    done.train()
    again = build(folder)
    again.train_adapter("a", train_embeddings=True)
    trainer(folder, tmp_path, again)._load_from_checkpoint(str(tmp_path / "checkpoint-12"))
    assert_equal(weights(again), weights(model))


def test_a_static_head_trains_saves_and_resumes(folder: Path, tmp_path: Path) -> None:
    def make() -> PreTrainedModel:
        torch.manual_seed(0)
        model = adapterhub.AutoModelForSequenceClassification.from_pretrained(folder)
        model.add_adapter("a")
        model.train_adapter("a")
        return model

    whole = trainer(folder, tmp_path, make())
    whole.train()
    resumed = trainer(folder, tmp_path, make())
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-8"))
    assert_equal(weights(resumed.model), weights(whole.model))


def test_gradient_accumulation_equals_the_larger_batch(folder: Path, tmp_path: Path) -> None:
    def run(batch: int, accumulate: int) -> dict[str, Tensor]:
        model = build(folder)
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        changes = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulate, "max_steps": 3}
        done = trainer(folder, tmp_path / f"{batch}", model, train_sampling_strategy="sequential", **changes)
        done.train()
        return weights(model)

    assert_equal(run(8, 2), run(16, 1), atol=2e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {"gradient_checkpointing": True},
        {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": True}},
        {"torch_compile": True, "torch_compile_backend": "aot_eager"},
    ],
)
def test_gives_the_same_as_the_plain_run(folder: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    torch._dynamo.reset()
    plain, changed = build(folder), build(folder)
    if "torch_compile" in changes:  # compiled code draws its dropout by itself
        for module in (*plain.modules(), *changed.modules()):
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    trainer(folder, tmp_path / "1", plain, max_steps=3).train()
    trainer(folder, tmp_path / "2", changed, max_steps=3, **changes).train()
    assert_equal(weights(changed), weights(plain), atol=1e-4)


def test_bf16(folder: Path, tmp_path: Path) -> None:
    plain, half = build(folder), build(folder)
    trainer(folder, tmp_path / "1", plain, max_steps=3).train()
    done = trainer(folder, tmp_path / "2", half, max_steps=3, bf16=True)
    done.train()
    assert done.accelerator.mixed_precision == "bf16"
    assert_equal(weights(half), weights(plain), atol=3e-2)


def test_rows_of_like_length_share_a_batch(folder: Path, tmp_path: Path) -> None:
    assert trainer(folder, tmp_path).args.train_sampling_strategy == "group_by_length"
    data = rows(folder)
    plain = AdapterTrainer(build(folder), arguments(tmp_path), train_dataset=data, group_by_length=False)
    assert plain.args.train_sampling_strategy == "random"


def test_question_answering_knows_its_labels(folder: Path, tmp_path: Path) -> None:
    model = AutoAdapterModel.from_pretrained(folder)
    model.add_adapter("qa")
    model.add_qa_head("qa")
    model.train_adapter("qa")
    data = [
        {k: v for k, v in row.items() if k != "labels"} | {"start_positions": 1, "end_positions": 2}
        for row in rows(folder)
    ]
    collator = DataCollatorWithPadding(AutoTokenizer.from_pretrained(folder))
    done = AdapterTrainer(model, arguments(tmp_path, max_steps=1), collator, data, eval_dataset=data[:8])
    done.train()
    assert done.evaluate()["eval_loss"] > 0


def test_sequence_to_sequence(tmp_path: Path) -> None:
    model = adapterhub.init(tiny.model("t5", "ForConditionalGeneration"))
    model.add_adapter("a")
    model.train_adapter("a")
    data = [{"input_ids": [5, 6, 7 + i % 5], "labels": [8 + i % 5, 1]} for i in range(16)]
    args = Seq2SeqTrainingArguments(str(tmp_path), max_steps=2, report_to=[], use_cpu=True, predict_with_generate=True)

    def collator(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        return {name: torch.tensor([row[name] for row in rows]) for name in rows[0]}

    done = Seq2SeqAdapterTrainer(model, args, collator, data, eval_dataset=data[:4])
    done.train()
    assert done.predict(data[:4]).predictions.shape[0] == 4


def test_refuses_what_could_not_train(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"has no adapters: .* adapterhub\.init"):
        AdapterTrainer(tiny.model("bert"), arguments(tmp_path))
    model = build(folder)
    model.set_active_adapters(None)
    with pytest.raises(TrainingError, match=r"no adapter is active: call model\.train_adapter"):
        trainer(folder, tmp_path, model).train()
    model.set_active_adapters("a")
    model.requires_grad_(False)
    with pytest.raises(TrainingError, match="every parameter is frozen"):
        trainer(folder, tmp_path, model).train()


def test_a_signal_ends_it_after_the_step_with_a_checkpoint(folder: Path, tmp_path: Path) -> None:
    class Stop(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):  # type: ignore[no-untyped-def]
            if state.global_step == 5:
                signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    whole = trainer(folder, tmp_path / "whole")
    whole.train()
    with pytest.raises(TrainingInterrupted, match=r"resume_from_checkpoint=.*checkpoint-6") as error:
        trainer(folder, tmp_path / "cut", callbacks=[Stop()], save_strategy="no").train()
    assert signal.getsignal(signal.SIGINT) is before
    resumed = trainer(folder, tmp_path / "cut")
    resumed.train(resume_from_checkpoint=str(error.value.checkpoint))
    assert_equal(weights(resumed.model), weights(whole.model))


def test_two_processes_equal_one_with_the_doubled_batch(folder: Path, tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent(
            """
            import os, sys, torch
            from pathlib import Path
            import test_trainer as t
            folder, output, batch = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
            model = t.build(folder)
            for module in model.modules():
                if isinstance(module, torch.nn.Dropout):
                    module.p = 0.0
            done = t.trainer(folder, output, model, max_steps=3, per_device_train_batch_size=batch,
                             train_sampling_strategy="sequential", save_strategy="no", **eval(sys.argv[4]))
            done.train()
            torch.save(t.weights(model), output / f"rank{done.args.process_index}.pt")
            if torch.distributed.is_initialized():
                torch.distributed.barrier()
            os._exit(0)  # a thread of gloo that still wants Python while that ends would abort the process
            """
        )
    )
    here = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    environment = os.environ | {"PYTHONPATH": ":".join(here), "OMP_NUM_THREADS": "1"}
    for name, launcher, batch in (
        ("one", [], 16),
        ("two", ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"], 8),
    ):
        backend = '{"ddp_backend": "gloo"}' if name == "two" else "{}"
        (tmp_path / name).mkdir()
        command = [sys.executable, *launcher, str(script), str(folder), str(tmp_path / name), str(batch), backend]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stderr
    one, first, second = (torch.load(tmp_path / name) for name in ("one/rank0.pt", "two/rank0.pt", "two/rank1.pt"))
    assert_equal(first, second)
    assert_equal(first, one, atol=1e-5)


def test_state_is_json(folder: Path, tmp_path: Path) -> None:
    trainer(folder, tmp_path, max_steps=4).train()
    state = json.loads((tmp_path / "checkpoint-4" / "trainer_state.json").read_text())
    assert state["global_step"] == 4


def test_tasks_of_a_multi_task_setup_train_what_they_share(folder: Path, tmp_path: Path) -> None:
    """Each row says of which task it is; a checkpoint is taken up again by both, which still share."""
    from adapterhub import MultiTask

    def multi_task() -> Any:
        torch.manual_seed(0)
        model: Any = AutoAdapterModel.from_pretrained(folder)
        for name in "ab":
            model.add_adapter(name, config="mtl_lora[r=2, n_up_projection=2]")
            model.add_classification_head(name, num_labels=2)
        model.share_parameters(["a", "b"])
        model.train_adapter(MultiTask("a", "b"))
        return model

    def run(model: Any, output: Path, **changes: Any) -> AdapterTrainer:
        data = [{**row, "task_ids": index % 2} for index, row in enumerate(rows(folder))]
        collator = DataCollatorWithPadding(AutoTokenizer.from_pretrained(folder))
        return AdapterTrainer(model, arguments(output, **changes), train_dataset=data, data_collator=collator)

    whole = multi_task()
    before = weights(whole)
    run(whole, tmp_path / "whole", max_steps=8).train()
    after = weights(whole)
    assert all(not torch.equal(after[name], value) for name, value in before.items() if "adapters" in name)
    parts = [whole.adapters[name].at("layers.0.attention.q") for name in "ab"]
    assert parts[0].lora_A is parts[1].lora_A and not torch.equal(parts[0].task_matrix, parts[1].task_matrix)
    resumed = multi_task()
    run(resumed, tmp_path / "whole", max_steps=8).train(resume_from_checkpoint=str(tmp_path / "whole/checkpoint-4"))
    for name, value in weights(resumed).items():
        torch.testing.assert_close(value, after[name], rtol=0, atol=0)
    assert (
        resumed.adapters["a"].at("layers.0.attention.q").lora_A
        is resumed.adapters["b"].at("layers.0.attention.q").lora_A
    )
