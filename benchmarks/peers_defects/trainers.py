"""What goes wrong while AdapterFusion is trained by ``AdapterTrainer``."""

import tempfile

import adapters
import torch
import transformers as tf
from adapters.composition import Fuse
from common import CONFIG, IDS, difference, shaken


def trainer(folder: str, steps: int = 1, name: str | None = None) -> adapters.AdapterTrainer:
    """A trainer of a fusion, by plain gradient descent."""
    torch.manual_seed(0)
    made = adapters.BertAdapterModel(tf.BertConfig(**CONFIG, hidden_dropout_prob=0, attention_probs_dropout_prob=0))
    for adapter in "ab":
        made.add_adapter(adapter)
    made.add_classification_head("h")
    setup = Fuse("a", "b", name=name)
    made.add_adapter_fusion(setup, config=adapters.DynamicAdapterFusionConfig(dropout_prob=0), name=name)
    shaken(made).train_adapter_fusion(setup)
    made.active_head = "h"
    arguments = tf.TrainingArguments(
        folder, max_steps=steps, learning_rate=1.0, lr_scheduler_type="constant", optim="sgd", max_grad_norm=0.0,
        weight_decay=0.5, per_device_train_batch_size=2, report_to=[], disable_tqdm=True, save_strategy="no",
        logging_strategy="no",
    )  # fmt: skip
    rows = [{"input_ids": row, "labels": torch.tensor(label)} for label, row in enumerate(IDS)]
    return adapters.AdapterTrainer(made, arguments, train_dataset=rows)


def value(made) -> torch.Tensor:
    """The first value matrix of the fusion."""
    return next(p for key, p in made.named_parameters() if "adapter_fusion_layer" in key and ".value." in key)


def trained(steps: int, regularised: bool) -> torch.Tensor:
    with tempfile.TemporaryDirectory() as folder:
        made = trainer(folder, steps)
        if not regularised:
            made.model.base_model.get_fusion_regularization_loss = lambda: None
        made.train()
        return value(made.model).detach()


def late_regulariser() -> str:
    one, three = (difference(trained(steps, True), trained(steps, False)) for steps in (1, 3))
    return f"what the fusion's regulariser changes: {one} in the first step, {three} after three"


def regulariser_off() -> str:
    with tempfile.TemporaryDirectory() as folder:
        made = trainer(folder).model
        made.delete_adapter_fusion("a,b")
        config = adapters.DynamicAdapterFusionConfig(regularization=False)
        made.add_adapter_fusion(["a", "b"], config=config)
        made.train_adapter_fusion(Fuse("a", "b"))
        with torch.no_grad():
            value(made).zero_()
        return f"with regularization=False it is {float(made.get_fusion_regularization_loss()):.2f}"


def value_decay() -> str:
    with tempfile.TemporaryDirectory() as folder:
        made = trainer(folder)
        groups = made.create_optimizer().param_groups
        decay = [group["weight_decay"] for group in groups if any(p is value(made.model) for p in group["params"])]
        return f"the weight decay of a fusion's value matrix, which pulls it from the identity, is {decay[0]}"


def named_resume() -> str:
    with tempfile.TemporaryDirectory() as folder:
        made = trainer(folder, name="mine")
        made.save_model(folder)
        saved = value(made.model).detach().clone()
        with torch.no_grad():
            value(made.model).zero_()
        made._load_from_checkpoint(folder)
        return f"a named fusion after resuming from a checkpoint differs by {difference(value(made.model), saved)}"


CHECKS = (late_regulariser, regulariser_off, value_decay, named_resume)
