"""What is lost between saving and loading, or kept where it should not be."""

import tempfile
from pathlib import Path

import adapters
import torch
import transformers as tf
from adapters.heads import CausalLMHead
from common import CONFIG, IDS, bottleneck, difference, model, run, tried
from tokenizers import Tokenizer, models


def direft_reload() -> str:
    made = model("a", config="direft")
    with tempfile.TemporaryDirectory() as folder:
        made.save_adapter(folder, "a")
        expected = run(made, "a")
        made.load_adapter(folder, load_as="b")
        return f"DiReFT saved and loaded: the output changes by {difference(run(made, 'b'), expected)}"


def half_a_file() -> str:
    made = model("a")
    with tempfile.TemporaryDirectory() as folder:
        made.save_adapter(folder, "a")
        file = Path(folder) / "pytorch_adapter.bin"
        tensors = torch.load(file, weights_only=True)
        torch.save({key: value for key, value in tensors.items() if "layer.0." not in key}, file)
        return tried("load_adapter of a file that lacks a layer", lambda: made.load_adapter(folder, load_as="b"))


def average_adapter() -> str:
    made = model("a", "b")
    return tried("average_adapter({'a': 1, 'b': 0})", lambda: made.average_adapter("c", {"a": 1.0, "b": 0.0}))


def fusion_load() -> str:
    made = model("a", "b", heads=True)
    made.add_adapter_fusion(["a", "b"])
    with tempfile.TemporaryDirectory() as folder:
        made.save_adapter_fusion(folder, "a,b")
        return f"load_adapter_fusion returns {made.load_adapter_fusion(folder)!r}"


def saved_norm() -> str:
    made = model("a", config=bottleneck(ln_before=True))
    with tempfile.TemporaryDirectory() as folder:
        return tried("ln_before as safetensors", lambda: made.save_adapter(folder, "a", use_safetensors=True))


def embeddings() -> str:
    made = model()
    words = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1, "word": 2}, unk_token="[UNK]"))
    made.add_embeddings("mine", tf.PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]"))
    made.set_active_embeddings("default")
    made.to(torch.float64)
    kept = any("mine" in key for key in made.state_dict())
    return (
        f"other embeddings: in the state dict {kept}, after .to(float64) {made.loaded_embeddings['mine'].weight.dtype}"
    )


def gating_scores() -> str:
    made = model("a", config=bottleneck(use_gating=True))
    made.set_active_adapters("a")
    scores = made(IDS, output_adapter_gating_scores=True).adapter_gating_scores
    return f"gating scores are {type(scores['a'][0]['output_adapter']).__name__}, cut from the graph"


def tied_keys() -> str:
    made = adapters.AutoAdapterModel.from_config(tf.GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=60))
    before = len(CausalLMHead._tied_weights_keys)
    made.add_causal_lm_head("one")
    made.add_causal_lm_head("two")
    added = len(CausalLMHead._tied_weights_keys) - before
    return f"two language-modelling heads add {added} entries to a list that all heads share"


def configuration_class() -> str:
    before = dict(tf.AlbertConfig.attribute_map)
    adapters.init(tf.AlbertModel(tf.AlbertConfig(**CONFIG, embedding_size=8)))
    added = sorted(tf.AlbertConfig.attribute_map.keys() - before.keys())
    return f"init adds {added} to the attribute map of every AlbertConfig"


CHECKS = (
    direft_reload, half_a_file, average_adapter, fusion_load, saved_norm, embeddings, gating_scores,
    tied_keys, configuration_class,
)  # fmt: skip
