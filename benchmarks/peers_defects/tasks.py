"""Multi-task LoRA: what does not run, and what is not shared."""

import tempfile

import adapters
import torch
import transformers as tf
from adapters.composition import MultiTask
from common import CONFIG, IDS, difference, model, run, tried


def sharing():
    """Two tasks that share their parameters, and what each holds at one weight."""
    made = model("a", "b", config="mtl_lora")
    made.share_parameters(["a", "b"])
    return made, held(made)


def held(made) -> list:
    return [made.encoder.layer[0].attention.self.query.loras[name] for name in "ab"]


def task_matrices() -> str:
    config = adapters.MTLLoRAConfig(task_specific_matrix_type="linear")
    return tried("multi-task LoRA with linear task matrices", lambda: run(model("a", config=config), "a").shape)


def unshared() -> str:
    made, (a, b) = sharing()
    made.unshare_parameters(["a", "b"])
    return f"after unshare_parameters two adapters hold one and the same parameter: {a.lora_A is b.lora_A}"


def sharing_reloaded() -> str:
    made, _ = sharing()
    with tempfile.TemporaryDirectory() as folder:
        made.save_adapter_setup(folder, MultiTask("a", "b"))
        other = model()
        other.load_adapter_setup(folder)
    a, b = held(other)
    return f"a setup of sharing adapters, saved and loaded, shares: {a.lora_A is b.lora_A}"


def up_projections() -> str:
    torch.manual_seed(0)
    made = tf.BertModel(tf.BertConfig(**CONFIG))
    adapters.init(made)
    made.add_adapter("a", config=adapters.MTLLoRAConfig(n_up_projection=2))
    made.train_adapter("a")
    optimizer = torch.optim.Adam([p for p in made.parameters() if p.requires_grad], lr=0.01)
    for _ in range(20):
        optimizer.zero_grad()
        made(IDS).last_hidden_state[..., 0].sum().backward()
        optimizer.step()
    first, second = made.encoder.layer[0].attention.self.query.loras["a"].lora_B
    return f"two up-projections after 20 steps: of size {first.abs().max():.1e}, apart by {difference(first, second)}"


def fused_tasks() -> str:
    made = tf.GPT2Model(tf.GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=60))
    adapters.init(made)
    for name in "ab":
        made.add_adapter(name, config="mtl_lora")
    made.set_active_adapters(MultiTask("a", "b"))
    return tried("multi-task LoRA on GPT-2", lambda: made(IDS, task_ids=torch.tensor([0, 1])).last_hidden_state.shape)


CHECKS = (task_matrices, unshared, sharing_reloaded, up_projections, fused_tasks)
