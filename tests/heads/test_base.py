import json
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from transformers.modeling_outputs import SequenceClassifierOutput

import flexible
import tiny
from adapterhub.errors import ConfigError, HeadError
from adapterhub.heads import (
    BaseInfo,
    Head,
    HeadConfig,
    LabelledConfig,
    base,
    build_head,
    register_head,
    registered_heads,
)
from adapterhub.heads.classification import ClassificationConfig

POOLINGS = {"eos": tiny.ENCODER_DECODERS, "last": tiny.DECODERS, "pair": ("clip",)}


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setattr(base, "_HEADS", dict(base._HEADS))


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_knows_what_stands_for_an_input(family):
    info = BaseInfo.of(flexible.make(family))
    assert info.pooling == next((how for how, families in POOLINGS.items() if family in families), "first")


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_knows_the_width_that_the_model_gives(family):
    model = flexible.make(family)
    outputs = model(**tiny.inputs(family))
    info = BaseInfo.of(model)
    if info.pooling == "pair":
        assert info.width == outputs.text_embeds.shape[-1] + outputs.image_embeds.shape[-1]
    else:
        assert info.width == outputs.last_hidden_state.shape[-1]


def test_reads_embeddings_dropout_and_scale():
    albert = BaseInfo.of(flexible.make("albert", classifier_dropout_prob=0.3))
    assert (albert.width, albert.embedding_width, albert.vocab_size, albert.dropout) == (32, 16, 99, 0.3)
    assert BaseInfo.of(flexible.make("bert", hidden_dropout_prob=0.2)).dropout == 0.2
    assert BaseInfo.of(flexible.make("bert", classifier_dropout=0.0, hidden_dropout_prob=0.2)).dropout == 0.0
    assert BaseInfo.of(flexible.make("t5")).output_scale == 32**-0.5
    assert BaseInfo.of(flexible.make("gemma2")).output_cap == 30.0
    assert BaseInfo.of(flexible.make("vit")).embedding_width is None


def test_labels_give_their_number():
    assert LabelledConfig().labels == {0: "LABEL_0", 1: "LABEL_1"}
    config = LabelledConfig(id2label={"1": "b", "0": "a", "2": "c"})  # as JSON has them
    assert config.count == 3 and list(config.labels.items()) == [(0, "a"), (1, "b"), (2, "c")]
    assert LabelledConfig(num_labels=2, id2label={0: "a", 1: "b"}) == LabelledConfig(id2label={0: "a", 1: "b"})


@pytest.mark.parametrize(("count", "names"), [(3, {0: "a", 1: "b"}), (None, {0: "a", 2: "b"}), (2, {1: "a", 2: "b"})])
def test_refuses_labels_that_do_not_go_with_their_number(count, names):
    with pytest.raises(HeadError, match="classes"):
        LabelledConfig(num_labels=count, id2label=names)


def test_refuses_what_is_no_configuration():
    info = BaseInfo.of(flexible.make("bert"))
    for values in ({"head_type": "static"}, {"head_type": "classification", "layers": "two"}, {}):
        with pytest.raises(HeadError):
            build_head(values, info)
    with pytest.raises(HeadError, match="at least one label, got num_labels=0"):
        LabelledConfig(num_labels=0)


def test_refuses_unknown_options_and_types():
    with pytest.raises(HeadError, match=r"no option depth.*num_labels, id2label, layers"):
        ClassificationConfig.from_dict({"depth": 3})
    with pytest.raises(HeadError, match=r"'parsing'.*classification.*register_head"):
        build_head({"head_type": "parsing"}, BaseInfo.of(flexible.make("bert")))


@pytest.mark.parametrize("options", [{"layers": 0}, {"activation_function": "sigmund"}])
def test_refuses_layers_that_cannot_be(options):
    with pytest.raises((HeadError, ConfigError), match=r"layer|sigmund"):
        build_head({"head_type": "classification", **options}, BaseInfo.of(flexible.make("bert")))


def test_comes_back_from_json():
    info = BaseInfo.of(flexible.make("bert"))
    head = build_head({"head_type": "tagging", "id2label": {0: "O", 1: "B"}, "layers": 2}, info)
    again = build_head(json.loads(json.dumps(head.to_dict())), info)
    assert type(again) is type(head) and again.config == head.config
    again.load_state_dict(head.state_dict())


def test_layers_stand_where_checkpoints_of_the_field_have_them():
    head = build_head({"head_type": "classification", "layers": 3}, BaseInfo.of(flexible.make("bert")))
    assert set(head.state_dict()) == {f"layers.{i}.{part}" for i in (1, 4, 7) for part in ("weight", "bias")}


def test_starts_as_the_base_model_does():
    torch.manual_seed(0)
    info = BaseInfo.of(flexible.make("bert", initializer_range=0.5))
    head = build_head({"head_type": "classification", "num_labels": 200}, info)
    weights, bias = head.layers[-1].weight, head.layers[-1].bias
    assert abs(weights.std().item() - 0.5) < 0.02 and not bias.any()


@pytest.mark.usefixtures("registry")
def test_a_head_of_ones_own():
    @dataclass(frozen=True)
    class MeanConfig(HeadConfig):
        factor: float = 2.0

    @register_head("mean")
    class MeanHead(Head):
        config_class = MeanConfig

        def __init__(self, config, base):
            super().__init__(config, base)
            self.map = nn.Linear(base.width, 1)

        def forward(self, context):
            logits = self.map(context.hidden.mean(1)) * self.config.factor
            loss = None if context.labels is None else (logits - context.labels).abs().mean()
            return context.answer(SequenceClassifierOutput, loss=loss, logits=logits)

    assert "mean" in registered_heads() and MeanHead.head_type == "mean"
    model = flexible.make("bert")
    model.add_custom_head("mean", "mine", factor=3.0)
    head, inputs = model.heads["mine"], tiny.inputs("bert")
    model.active_head = None
    hidden = model(**inputs).last_hidden_state
    model.active_head = "mine"
    expected = head.map(hidden.mean(1)) * 3
    answer = model(**inputs, labels=torch.ones(3, 1), output_hidden_states=True)
    assert torch.equal(answer.logits, expected) and torch.equal(answer.loss, (expected - 1).abs().mean())
    assert len(answer.hidden_states) == 3  # the embeddings' and two layers'
    with pytest.raises(HeadError, match="no option depth"):
        model.add_custom_head("mean", "other", depth=3)


@pytest.mark.usefixtures("registry")
def test_register_head_takes_names_and_classes():
    class OwnHead(Head):
        head_type = "own"

        def forward(self, context):
            return context.outputs

    assert register_head(OwnHead) is OwnHead and register_head("own", OwnHead) is OwnHead
    with pytest.raises(HeadError, match="no subclass"):
        register_head("linear", nn.Linear)
    with pytest.raises(HeadError, match=r"taken by adapterhub\.heads\.tagging\.TaggingHead"):
        register_head("tagging", OwnHead)
    assert OwnHead.head_type == "own"
    model = flexible.make("bert")
    with pytest.raises(ConfigError, match="name"):
        model.add_custom_head("own", "a.b")
    assert not len(model.heads)
