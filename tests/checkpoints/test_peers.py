"""What is written as ``adapters`` or PEFT write it, loaded by these packages themselves: they give the same.

They need an environment of their own, which ``scripts/peer-env`` makes; without it these tests are skipped.
"""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

import adapterhub
import goldens
import tiny
from adapterhub.composition import Fuse, Stack

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-peers" / "bin" / "python"
INSTALLED = PYTHON.parents[1] / ".installed"  # what scripts/peer-env leaves at its end
pytestmark = pytest.mark.skipif(not INSTALLED.exists(), reason="no .venv-peers: scripts/peer-env makes it")

PROMPTS = {"bert-prompt_tokens": (0, 3), "bert-prompt_bos_tokens": (1, 4)}  # where it has scores for a prompt's tokens
OUTPUTS = ("logits", "last_hidden_state", "logits_per_text")
Made = tuple[dict[str, Any], Any, dict[str, Tensor]]  # a case, the model that wrote it, inputs


def shaken(model: Any) -> None:
    torch.manual_seed(0)
    for module in (*model.adapters.values(), *getattr(model, "heads", {}).values()):
        for parameter in module.parameters():
            parameter.data.add_(0.3 * torch.randn_like(parameter))


def golden_of_adapters(label: str, folder: Path) -> Made:
    model = goldens.flexible(base := label.partition("-")[0])
    model.load_adapter(goldens.ADAPTERS / label, allow_pickle=True, set_active=True)
    model.save_adapter(folder, "task", format="adapters")
    case = {"peer": "adapters", "base": base, "prompt": PROMPTS.get(label, (0, 0))}
    return case, model, goldens.expected(goldens.ADAPTERS / label)[0]


def golden_setup(folder: Path) -> Made:
    model = goldens.flexible("bert")
    model.load_adapter_setup(goldens.ADAPTERS / "bert-setup", set_active=True)
    model.save_adapter_setup(folder, Stack("a", Fuse("b", "c")), "target", format="adapters")
    inputs, _ = goldens.expected(goldens.ADAPTERS / "bert-setup")
    return {"peer": "adapters", "base": "bert", "setup": True}, model, inputs


def new_of_adapters(base: str, config: Any, folder: Path) -> Made:
    model = goldens.flexible(base)
    model.add_adapter("task", config=config)
    model.add_classification_head("task", num_labels=3)
    model.set_active_adapters("task")
    shaken(model)
    model.save_adapter(folder, "task", format="adapters")
    label = {"bert": "bert-lora", "gpt2": "gpt2-lora", "t5": "t5-double", "bart": "bart-double"}[base]
    return {"peer": "adapters", "base": base}, model, goldens.expected(goldens.ADAPTERS / label)[0]


def stack_of_prefixes(folder: Path) -> Made:
    """Two on T5, where it matters which of them is first."""
    model = goldens.flexible("t5")
    for name, length in (("a", 2), ("b", 5)):
        model.add_adapter(name, config=prefix(prefix_length=length))
    model.add_classification_head("target", num_labels=3)
    model.set_active_adapters(Stack("a", "b"))
    shaken(model)
    model.save_adapter_setup(folder, Stack("a", "b"), "target", format="adapters")
    inputs, _ = goldens.expected(goldens.ADAPTERS / "t5-prefix")
    return {"peer": "adapters", "base": "t5", "setup": True}, model, inputs


def family_of_adapters(family: str, folder: Path, config: Any = None) -> Made:
    """Bottlenecks and LoRA, unless there is a ``config``, on the bare model of one architecture."""
    bare = MORE[family]() if family in MORE else tiny.model(family)
    bare.eval().save_pretrained(folder.parent / "bases" / family)
    kind, inputs = type(bare).__name__, tiny.inputs(READS_LIKE.get(family, family))
    model: Any = adapterhub.init(bare)
    lora = LORA(r=2, alpha=4, attn_matrices=("q", "v"), output_lora=True)
    after_attention = BN(mh_adapter=True, output_adapter=False, reduction_factor=2, non_linearity="tanh")
    bottlenecks = [BN(reduction_factor=4)] if family == "albert" else [after_attention, BN(reduction_factor=4)]
    usual = lora if family == "gemma2" else UNION(*bottlenecks, lora)
    model.add_adapter("task", config=config or usual, set_active=True)
    shaken(model)
    model.save_adapter(folder, "task", format="adapters")
    return {"peer": "adapters", "base": family, "path": kind}, model, inputs


def with_a_head_of_transformers(folder: Path) -> Made:
    bare, inputs, _ = goldens.base("bert")
    config = transformers.BertConfig(**bare.config.to_diff_dict(), num_labels=4)
    model: Any = adapterhub.init(transformers.BertForSequenceClassification(config).eval())
    model.bert.load_state_dict(bare.state_dict())
    model.add_adapter("task", config="seq_bn[reduction_factor=4]", set_active=True)
    shaken(model)
    model.classifier.weight.data.normal_()
    model.save_adapter(folder, "task", format="adapters")
    return {"peer": "adapters", "base": "bert", "head": True}, model, inputs


def golden_of_peft(label: str, folder: Path) -> Made:
    model, inputs, _ = goldens.classifier(label)
    model.load_adapter(goldens.PEFT / label, allow_pickle=True, set_active=True)
    model.save_adapter(folder, label, format="peft")
    return {"peer": "peft", "base": model.config.model_type, "head": True}, model, inputs


def new_of_peft(base: str, config: Any, folder: Path) -> Made:
    bare, inputs, _ = goldens.base(base)
    model: Any = adapterhub.init(bare)
    model.add_adapter("a", config=config, set_active=True)
    shaken(model)
    model.save_adapter(folder, "a", format="peft")
    return {"peer": "peft", "base": base}, model, inputs


def prompt_of_peft(family: str, kind: str, config: str, folder: Path) -> Made:
    """A prompt or a prefix of 3 on a class of an architecture; PEFT gives states for the prompt of a bare model too."""
    bare = tiny.model(family, kind).eval()
    bare.save_pretrained(folder.parent / "bases" / (base := f"{family}-{kind}"))
    model: Any = adapterhub.init(bare)
    model.add_adapter("a", config=config, set_active=True)
    model.save_adapter(folder, "a", format="peft", with_head=False)
    rows = (0, 3) if kind == "Model" and "prompt" in config else (0, 0)
    return {"peer": "peft", "base": base, "path": type(bare).__name__, "prompt": rows}, model, tiny.inputs(family)


def convolution(config: Any, folder: Path) -> Made:
    bare = tiny.model("vit").eval()
    bare.save_pretrained(folder.parent / "bases" / "vit")
    model: Any = adapterhub.init(bare)
    model.add_adapter("a", config=config, set_active=True)
    shaken(model)
    model.save_adapter(folder, "a", format="peft")
    return {"peer": "peft", "base": "vit", "path": "ViTModel"}, model, tiny.inputs("vit")


def prefix(**options: Any) -> adapterhub.PrefixTuningConfig:
    """One that acts on T5 as it does in ``adapters``."""
    return adapterhub.PrefixTuningConfig(bottleneck_size=5, prefix_in_position_bias=True, **options)


LORA, BN, UNION = adapterhub.LoRAConfig, adapterhub.BnConfig, adapterhub.ConfigUnion
TOWERS = UNION(  # of CLIP, which adapters counts the other way round
    BN(leave_out=("vision_model",), reduction_factor={"2": 8, "default": 4}),
    BN(leave_out=("text_model",), mh_adapter=True, reduction_factor=2),
    LORA(r=2, leave_out=(2,)),
    adapterhub.LoReftConfig(r=2, layers=(1, 2)),
)
# Not deberta and modernbert, which adapters.init alone makes give something else.
FAMILIES = ["roberta", "xlm-roberta", "albert", "electra", "deberta-v2", "llama", "mistral", "qwen2", "qwen3", "gemma2"]
FAMILIES += ["phi", "clip", "mt5", "mbart", "vit", "whisper", "gptj", "plbart", "bert-generation"]
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 37}
READS_LIKE = {"gptj": "gpt2", "plbart": "mbart", "bert-generation": "bert"}
MORE: dict[str, Callable[[], Any]] = {  # that ``tiny`` has not
    "gptj": lambda: transformers.GPTJModel(
        transformers.GPTJConfig(vocab_size=99, n_embd=32, n_layer=2, n_head=4, rotary_dim=4)
    ),
    "plbart": lambda: transformers.PLBartModel(
        transformers.PLBartConfig(
            vocab_size=99,
            d_model=32,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
        )
    ),
    "bert-generation": lambda: transformers.BertGenerationEncoder(
        transformers.BertGenerationConfig(**SIZES, vocab_size=99)
    ),
}
CASES: dict[str, Callable[[Path], Made]] = {
    **{f"adapters {label}": lambda folder, label=label: golden_of_adapters(label, folder) for label in goldens.LABELS},
    "adapters setup": golden_setup,
    "adapters union of towers": lambda folder: family_of_adapters("clip", folder, TOWERS),
    "adapters head of transformers": with_a_head_of_transformers,
    **{
        f"adapters {name}": lambda folder, base=base, config=config: new_of_adapters(base, config, folder)
        for name, base, config in [
            ("patterns", "bert", LORA(r=2, alpha=5, use_rslora=True, rank_pattern={"v": 3}, alpha_pattern={"q": 2})),
            ("PiSSA", "bert", LORA(r=2, alpha=6, init_weights="pissa")),
            ("LoRA of T5", "t5", LORA(r=2, alpha=6, attn_matrices=("q", "k"), output_lora=True, leave_out=(1,))),
            ("VeRA", "bert", adapterhub.VeraConfig(r=4)),
            ("DoRA", "t5", adapterhub.DoRAConfig(r=2, alpha=6)),
            ("DiReFT", "bert", adapterhub.DiReftConfig(r=2, leave_out=(0,))),
            ("LoReFT suffix", "gpt2", adapterhub.LoReftConfig(r=2, prefix_positions=0, suffix_positions=2)),
            ("Adapter+", "bert", adapterhub.AdapterPlusConfig(reduction_factor=4, stochastic_depth=0.0)),
            ("cross", "bart", adapterhub.DoubleSeqBnConfig(cross_adapter=True, reduction_factor=4)),
            ("a tower left out", "bart", BN(mh_adapter=True, reduction_factor=4, leave_out=("encoder",))),
            ("prefix in a tower", "bart", adapterhub.PrefixTuningConfig(prefix_length=3, leave_out=("decoder",))),
            (
                "union at other sublayers",
                "bart",
                UNION(
                    BN(mh_adapter=True, output_adapter=False, reduction_factor=2),
                    BN(output_adapter=False, cross_adapter=True, reduction_factor=4, scaling="learned"),
                    adapterhub.SeqBnInvConfig(reduction_factor=8),
                ),
            ),
            (
                "union in other layers",
                "t5",
                UNION(
                    BN(mh_adapter=True, reduction_factor=2, leave_out=("decoder",)),
                    adapterhub.ParBnConfig(mh_adapter=True, reduction_factor=4, leave_out=("encoder",)),
                ),
            ),
            (
                "union of many",
                "gpt2",
                UNION(
                    BN(reduction_factor=2, leave_out=(0,)),
                    adapterhub.CompacterConfig(reduction_factor=2, leave_out=(1,)),
                    adapterhub.PrefixTuningConfig(prefix_length=3),
                    LORA(r=2, alpha=6, rank_pattern={"v": 3}),
                ),
            ),
            ("union with VeRA", "bert", UNION(adapterhub.VeraConfig(r=4), adapterhub.SeqBnConfig(reduction_factor=4))),
            ("gated prefix of T5", "t5", prefix(prefix_length=4, use_gating=True, shared_gating=False)),
            ("prefix of T5's decoder", "t5", prefix(prefix_length=3, flat=True, leave_out=(0, 1))),
            ("MAM of T5", "t5", adapterhub.MAMConfig(prefix(prefix_length=3), adapterhub.ParBnConfig())),
        ]
    },
    "adapters prefixes in a Stack": stack_of_prefixes,
    "adapters prefix of mT5": lambda folder: family_of_adapters("mt5", folder, prefix(prefix_length=3)),
    **{
        f"adapters on {family}": lambda folder, family=family: family_of_adapters(family, folder) for family in FAMILIES
    },
    **{
        f"peft {path.name}": lambda folder, label=path.name: golden_of_peft(label, folder)
        for path in sorted(goldens.PEFT.iterdir())
        if path.name not in ("all_biases", "tokens")
    },
    **{
        f"peft {config.partition('_')[0]} of {family}{kind}": lambda folder, made=(family, kind, config): (
            prompt_of_peft(*made, folder)
        )
        for family, kind, config in [
            ("t5", "ForConditionalGeneration", "prompt_tuning[prompt_length=3]"),
            ("bart", "ForConditionalGeneration", "prompt_tuning[prompt_length=3]"),
            ("bert", "Model", "prompt_tuning[prompt_length=3]"),
            ("gpt2", "Model", "prefix_tuning_flat[prefix_length=3, shift_positions=True]"),
        ]
    },
    "peft convolution": lambda folder: convolution(LORA(r=2, alpha=6, target_modules=("projection",)), folder),
    "peft DoRA of one": lambda folder: convolution(adapterhub.DoRAConfig(r=2, target_modules=("projection",)), folder),
    **{
        f"peft {name}": lambda folder, base=base, config=config: new_of_peft(base, config, folder)
        for name, base, config in [
            ("LoRA of parts", "gpt2", LORA(r=2, alpha=6, attn_matrices=("q", "v"), output_lora=True)),
            ("rsLoRA of parts", "gpt2", LORA(r=2, use_rslora=True, attn_matrices=("k", "v"), bias=True)),
            ("DoRA of parts", "gpt2", adapterhub.DoRAConfig(r=2, alpha=3)),
            ("DoRA", "bert", adapterhub.DoRAConfig(r=2, alpha=3, target_modules=("q", "word_embeddings"))),
            ("all linear", "llama", LORA(r=2, target_modules="all-linear")),
            ("embedding", "bert", LORA(r=2, alpha=3, target_modules=("word_embeddings", "pooler.dense"))),
            ("(IA)³ of parts", "gpt2", adapterhub.IA3Config()),
            ("(IA)³", "t5", adapterhub.IA3Config()),
            ("norms", "t5", adapterhub.LayerNormConfig()),
            ("LoRA of T5", "t5", LORA(r=2, attn_matrices=("q",), intermediate_lora=True)),
        ]
    },
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Tensor | str, Tensor]]:
    """For every case what the peer gave (or its error), and what this library did."""
    folder = tmp_path_factory.mktemp("peers")
    cases, inputs, ours = [], {}, {}
    for name, make in CASES.items():
        case, model, given = make(folder / name)
        cases.append({"setup": False, "head": False, "prompt": (0, 0), "path": None, "name": name} | case)
        inputs |= {f"{name}/{key}": value for key, value in given.items()}
        with torch.no_grad():
            result = model.eval()(**given)
        ours[name] = next(result[one] for one in OUTPUTS if one in result)
    save_file(inputs, folder / "inputs.safetensors")
    (folder / "cases.json").write_text(json.dumps(cases))
    command = [str(PYTHON), str(ROOT / "tests" / "golden" / "load.py"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    theirs = {**load_file(folder / "outputs.safetensors"), **json.loads((folder / "errors.json").read_text())}
    return {name: (theirs[name], ours[name]) for name in CASES}


@pytest.mark.parametrize("name", CASES)
def test_the_peer_gives_the_same(name: str, answers: dict[str, tuple[Tensor | str, Tensor]]) -> None:
    theirs, ours = answers[name]
    assert isinstance(theirs, Tensor), theirs
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-5)
