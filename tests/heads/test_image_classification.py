import pytest
import torch
import torch.nn.functional as F
import transformers as tf

import flexible
import tiny

LABELS = torch.tensor([2, 0, 1])


def test_is_the_maths_of_vit():
    reference = tiny.model("vit", "ForImageClassification", num_labels=3)
    model = flexible.around(reference)
    model.add_image_classification_head("h", num_labels=3)
    model.heads["h"].layers[1].load_state_dict(reference.classifier.state_dict())
    expected = reference(**tiny.inputs("vit"), labels=LABELS)
    answer = model(**tiny.inputs("vit"), labels=LABELS)
    assert type(answer) is type(expected)
    torch.testing.assert_close(answer.logits, expected.logits)
    torch.testing.assert_close(answer.loss, expected.loss)


def test_an_image_may_have_several_labels():
    model = flexible.make("vit")
    model.add_image_classification_head("h", num_labels=4, multilabel=True)
    labels = torch.tensor([[1, 0, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]])
    answer = model(**tiny.inputs("vit"), labels=labels)
    torch.testing.assert_close(answer.loss, F.binary_cross_entropy_with_logits(answer.logits, labels.float()))
    assert model.config.problem_type == "multi_label_classification"


def test_beit_pools_by_itself():
    settings = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 37}
    settings |= {"image_size": 16, "patch_size": 8, "out_features": ["stage1"]}
    model = flexible.flexible_class(tf.BeitModel)(tf.BeitConfig(**settings)).eval()
    images = tiny.inputs("vit")["pixel_values"]
    pooled = model(images).pooler_output
    model.add_image_classification_head("h")
    assert torch.equal(model(images).logits, model.heads["h"].layers(pooled))


@pytest.mark.parametrize(
    ("config", "base"),
    [
        (
            tf.SwinConfig(embed_dim=8, depths=[1, 1], num_heads=[2, 2], image_size=16, patch_size=2, window_size=2),
            tf.SwinModel,
        ),
        (tf.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1]), tf.ResNetModel),
        (tf.ConvNextConfig(num_stages=2, hidden_sizes=[8, 16], depths=[1, 1]), tf.ConvNextModel),
    ],
)
@pytest.mark.parametrize("use_pooler", [True, False])
def test_models_without_a_class_token_are_averaged(config, base, use_pooler):
    model = flexible.flexible_class(base)(config).eval()
    images = tiny.inputs("vit")["pixel_values"]
    outputs = model(images)
    model.add_image_classification_head("h", num_labels=3, use_pooler=use_pooler)
    maps = outputs.last_hidden_state
    mean = maps.mean(1) if maps.dim() == 3 else maps.mean((2, 3))
    vector = outputs.pooler_output.flatten(1) if use_pooler else mean
    torch.testing.assert_close(model(images).logits, model.heads["h"].layers(vector))
