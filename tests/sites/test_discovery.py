"""Discovery against what the modelling code of each family is known to do."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn
from transformers import (
    PreTrainedModel,
    Qwen2MoeConfig,
    Qwen2MoeModel,
    XLMConfig,
    XLMModel,
)

import adapterhub
import tiny
from adapterhub.errors import SiteError
from adapterhub.sites import Layer, Norm, Projection, Sites, Sublayer, discover
from adapterhub.sweep.architectures import build
from adapterhub.sweep.checks import check, seeded_run

BERT_LIKE = {"bert", "roberta", "xlm-roberta", "distilbert", "albert", "electra", "deberta", "deberta-v2", "mpnet"}
POST_NORM = BERT_LIKE | {"bart", "marian"}
FUSED = {"gpt2": "qkv", "modernbert": "qkv", "phi3": "qkv", "deberta": "qkv"}


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_finds_every_layer_and_sublayer(family: str) -> None:
    sites = discover(tiny.model(family))
    towers = 2 if family in (*tiny.ENCODER_DECODERS, "clip") else 1
    assert len(sites.towers) == towers
    assert len(sites.layers) == (1 if family == "albert" else 2 * towers)  # ALBERT runs one layer several times
    for layer in sites.layers:
        kinds = [sublayer.kind for sublayer in layer.sublayers]
        expected = ["attention", "feed_forward"]
        if family in tiny.ENCODER_DECODERS and layer.tower == "decoder":
            expected.insert(1, "cross_attention")
        assert kinds == expected
        assert all(sublayer.width == 32 for sublayer in layer.sublayers)
        assert all((sublayer.norm is not None) == (family in POST_NORM) for sublayer in layer.sublayers)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_names_the_projections_by_role(family: str) -> None:
    for sublayer in discover(tiny.model(family)).sublayers:
        roles = [projection.role for projection in sublayer.projections]
        if sublayer.kind == "feed_forward":
            assert roles in (["up", "down"], ["gate", "up", "down"], ["gate_up", "down"])
        else:
            assert roles[-1] == "o"
            assert ([FUSED[family]] if family in FUSED else ["q", "k", "v"]) == [r for r in roles[:-1] if r != "other"]


@pytest.mark.parametrize("family", [family for family in tiny.FAMILIES if family != "phi"])  # its sublayers share x
def test_residual_and_output_add_up(family: str) -> None:
    """The values at the sites really are x and h: what the next sublayer of the layer reads is their sum."""
    model = tiny.model(family)
    sites = discover(model)
    x: dict[str, torch.Tensor] = {}
    h: dict[str, torch.Tensor] = {}

    def keep(values: dict[str, torch.Tensor], name: str, value: torch.Tensor | tuple[torch.Tensor]) -> None:
        values.setdefault(name, value if torch.is_tensor(value) else value[0])

    for site in sites.sublayers:
        reader, writer = model.get_submodule(site.residual_at), model.get_submodule(site.output_at)
        reader.register_forward_pre_hook(lambda module, args, name=site.name: keep(x, name, args))
        writer.register_forward_hook(lambda module, args, out, name=site.name: keep(h, name, out))
    with torch.no_grad():
        model(**tiny.inputs(family))
        for layer in sites.layers:
            for site, following in pairwise(layer.sublayers):
                total = x[site.name] + h[site.name]
                expected = total if site.norm is None else model.get_submodule(site.norm)(total)
                torch.testing.assert_close(x[following.name], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_leaves_the_model_as_it_was(family: str) -> None:
    model = tiny.model(family).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(5)
    state = torch.get_rng_state()
    discover(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("kind", ["ForSequenceClassification", "ForMaskedLM", "ForQuestionAnswering"])
def test_site_names_do_not_depend_on_the_head(kind: str) -> None:
    bare, headed = discover(tiny.model("bert")), discover(tiny.model("bert", kind))
    assert [s.name for s in bare.sublayers] == [s.name for s in headed.sublayers]
    assert all(s.output_at.startswith("bert.") for s in headed.sublayers)


@pytest.mark.parametrize("family", ["t5", "bart", "marian", "whisper"])
def test_encoder_decoder_with_head_names_its_sites_alike(family: str) -> None:
    bare, headed = (
        discover(tiny.model(family)),
        discover(tiny.model(family, "MTModel" if family == "marian" else "ForConditionalGeneration")),
    )
    assert [s.name for s in bare.sublayers] == [s.name for s in headed.sublayers]


def test_a_feed_forward_that_runs_on_two_streams_in_turn_is_one() -> None:
    layers = [layer for layer in discover(build("pegasus_x")).layers if layer.tower == "encoder"]
    for layer in layers:
        (found,) = (sublayer for sublayer in layer.sublayers if sublayer.kind == "feed_forward")
        assert [projection.role for projection in found.projections] == ["up", "down"]
        assert found.residual_at.endswith("final_layer_norm") and found.output_at.endswith("fc2")


@pytest.mark.parametrize(
    ("name", "layer", "reader", "kinds"),
    [
        ("canine", 0, "", ["attention", "feed_forward"]),  # attention reads x in chunks
        ("higgs_audio_v2", 0, "", ["attention", "feed_forward", "feed_forward"]),  # norms read some tokens of x
        ("udop", 2, ".layer.0.layer_norm", ["attention", "cross_attention", "feed_forward"]),
    ],
)
def test_attention_that_no_module_inside_reads_the_whole_of_x_for(name, layer, reader, kinds) -> None:
    found = discover(build(name)).layers[layer]
    assert [sublayer.kind for sublayer in found.sublayers] == kinds
    assert found.sublayers[0].residual_at == found.path + reader
    assert [projection.role for projection in found.sublayers[0].projections[-1:]] == ["o"]


def test_what_gates_or_routes_a_feed_forward_is_not_what_goes_out_of_it() -> None:
    sizes = {"hidden_size": 32, "shared_expert_intermediate_size": 32, "moe_intermediate_size": 16, "num_experts": 4}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    model = Qwen2MoeModel(Qwen2MoeConfig(vocab_size=99, num_hidden_layers=2, **sizes, **heads))
    shared = [sub for sub in discover(model).sublayers if sub.kind == "feed_forward"]
    routed = [sub for sub in discover(build("dbrx")).sublayers if sub.kind == "feed_forward"]
    assert {tuple(p.role for p in sub.projections) for sub in shared} == {("gate", "up", "down", "other")}
    assert {tuple(p.role for p in sub.projections) for sub in routed} == {("other",)}


def test_a_model_without_attention_is_an_error_that_says_what_was_looked_for() -> None:
    class Plain(PreTrainedModel):
        def __init__(self, config):
            super().__init__(config)
            self.layers = nn.ModuleList([nn.Linear(4, 4)])

        def forward(self, input_ids):
            return input_ids

    with pytest.raises(SiteError, match=r"Plain has no adapter sites: looked for .* attention.*by hand"):
        discover(Plain(tiny.config("bert")))


def test_a_model_that_does_not_run_is_an_error_with_the_cause() -> None:
    model = tiny.model("bert")
    model.forward = lambda input_ids, attention_mask=None: 1 / 0
    with pytest.raises(SiteError, match=r"could not be run.*input_ids: ZeroDivisionError"):
        discover(model)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_reads_as_text_and_as_json() -> None:
    import json

    sites = discover(tiny.model("bert"))
    assert "post-norm encoder.layer.0.output.LayerNorm  [up down]" in str(sites)
    assert json.loads(json.dumps(sites.to_dict()))["layers"][1]["name"] == "layers.1"


# Sites by hand


def xlm(width: int = 32) -> tuple[PreTrainedModel, Sites]:
    """A model without a list of layers (its attentions and feed-forwards are lists of their own), and its sites."""
    torch.manual_seed(0)
    model = XLMModel(XLMConfig(vocab_size=99, emb_dim=width, n_layers=2, n_heads=4)).eval()

    def sublayer(layer: int, kind: str, inside: str, roles: dict[str, str]) -> Sublayer:
        first, *_, last = paths = [f"{inside}.{layer}.{name}" for name in roles.values()]
        norm = f"layer_norm{1 if kind == 'attention' else 2}.{layer}"
        projections = tuple(map(Projection, roles, paths))
        return Sublayer(f"layers.{layer}.{kind}", kind, layer, width, first, last, norm, projections)

    attention = {"q": "q_lin", "k": "k_lin", "v": "v_lin", "o": "out_lin"}
    feed_forward = {"up": "lin1", "down": "lin2"}
    layers = tuple(
        Layer(
            index,
            f"layers.{index}",
            "",
            f"layer_norm2.{index}",
            width,
            (
                sublayer(index, "attention", "attentions", attention),
                sublayer(index, "feed_forward", "ffns", feed_forward),
            ),
        )
        for index in range(2)
    )
    norms = tuple(Norm(f"layers.{i}.norms.{n - 1}", f"layer_norm{n}.{i}", i) for i in range(2) for n in (1, 2))
    return model, Sites("XLMModel", layers, norms, None)


@pytest.mark.parametrize("method", ["bottleneck", "lora", "reft"])
def test_sites_by_hand_work_as_those_found(method: str) -> None:
    model, sites = xlm()
    adapterhub.init(model, sites=sites)
    inputs = {"input_ids": torch.arange(3, 11).view(2, 4)}
    check(model, method, seeded_run(model, inputs))


def test_layers_in_lists_side_by_side_are_those_described_by_hand() -> None:
    model, sites = xlm()
    found = discover(model)
    assert found.layers == sites.layers
    assert set(found.norms) == {*sites.norms, Norm("norms.0", "layer_norm_emb", None)}
    assert found.embeddings is None  # nothing alone takes what is embedded: it is added to what attention gives


class SelfAttention(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x):
        return self.o((self.q(x) @ self.k(x).mT).softmax(-1) @ self.v(x))


class SideBySide(PreTrainedModel):
    """Pre-norm, and without a list of layers."""

    def __init__(self, config):
        super().__init__(config)
        width, count = config.hidden_size, range(config.num_hidden_layers)
        self.embeddings = nn.Embedding(config.vocab_size, width)
        self.attentions = nn.ModuleList(SelfAttention(width) for _ in count)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in count)
        self.ffns = nn.ModuleList(nn.Sequential(nn.Linear(width, 48), nn.GELU(), nn.Linear(48, width)) for _ in count)
        self.post_init()

    def forward(self, input_ids):
        x = self.embeddings(input_ids)
        for attend, norm, feed in zip(self.attentions, self.norms, self.ffns, strict=True):
            x = x + attend(x)
            x = x + feed(norm(x))
        return (x,)


def test_what_no_module_of_a_layer_gives_is_not_its_output() -> None:
    torch.manual_seed(0)
    model = SideBySide(tiny.config("bert")).eval()
    layers = discover(model).layers
    assert [[sub.kind for sub in layer.sublayers] for layer in layers] == [["attention", "feed_forward"]] * 2
    assert [layer.width for layer in layers] == [0, 0]  # x + h of the last feed-forward
    adapterhub.init(model)
    for method in ("bottleneck", "lora"):
        check(model, method, seeded_run(model, {"input_ids": torch.arange(3, 11).view(2, 4)}))


def test_sites_that_name_no_module_are_refused() -> None:
    model, sites = xlm()
    wrong = replace(sites, norms=(Norm("norms.0", "no.such.norm", None),))
    with pytest.raises(SiteError, match=r"XLMModel has no module 'no.such.norm'"):
        adapterhub.init(model, sites=wrong)
    assert type(model) is XLMModel
