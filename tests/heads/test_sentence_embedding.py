import math

import pytest
import torch
import torch.nn.functional as F

import flexible
import tiny
from adapterhub.errors import HeadError
from adapterhub.heads.sentence_embedding import contrastive_loss


@pytest.mark.parametrize("family", [name for name in tiny.FAMILIES if name != "clip"])
def test_every_model_takes_the_head(family):
    model = flexible.make(family)
    model.add_sentence_embedding_head("h")
    answer = model(**tiny.inputs(family), labels=torch.tensor([0, 1, 0]))
    torch.testing.assert_close(answer.embeddings.norm(dim=-1), torch.ones(3))
    answer.loss.backward()


def test_pools_as_asked():
    model = flexible.make("bert")
    inputs = tiny.inputs("bert")
    hidden = model(**inputs).last_hidden_state
    mean = torch.stack([hidden[0].mean(0), hidden[1].mean(0), hidden[2, :5].mean(0)])
    last = torch.stack([hidden[0, -1], hidden[1, -1], hidden[2, 4]])
    for pooling, expected in {"mean": mean, "cls": hidden[:, 0], "last": last}.items():
        model.add_sentence_embedding_head(pooling, pooling=pooling, normalize=False)
        torch.testing.assert_close(model(**inputs).embeddings, expected)
    model.add_sentence_embedding_head("short", width=8)
    projected = F.normalize(mean @ model.heads["short"].layers.weight.T, dim=-1)
    torch.testing.assert_close(model(**inputs).embeddings, projected)


def test_loss_over_pairs_is_nt_xent():
    """Chen et al. 2020, equation 1, written out."""
    vectors = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([7, 8, 9, 7, 8, 9])
    cosine = F.cosine_similarity(vectors[:, None], vectors[None], dim=-1) / 0.1
    total = 0.0
    for i in range(6):
        j = (i + 3) % 6
        total -= math.log(cosine[i, j].exp() / sum(cosine[i, k].exp() for k in range(6) if k != i))
    torch.testing.assert_close(contrastive_loss(vectors, labels, 0.1), torch.tensor(total / 6))


def test_loss_over_classes_is_supervised_contrast():
    """Khosla et al. 2020, equation 2, written out; the last row has no partner."""
    vectors = torch.randn(6, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    cosine = F.cosine_similarity(vectors[:, None], vectors[None], dim=-1).detach() / 0.1
    terms = []
    for i in range(5):
        rest = sum(cosine[i, k].exp() for k in range(6) if k != i)
        own = [math.log(cosine[i, p].exp() / rest) for p in range(6) if p != i and labels[p] == labels[i]]
        terms.append(-sum(own) / len(own))
    loss = contrastive_loss(vectors, labels, 0.1)
    torch.testing.assert_close(loss, torch.tensor(sum(terms) / 5))
    loss.backward()
    assert vectors.grad.isfinite().all() and vectors.grad[5].any()


def test_loss_without_any_pair_is_zero():
    vectors = torch.randn(3, 5, requires_grad=True)
    loss = contrastive_loss(vectors, torch.arange(3), 0.1)
    loss.backward()
    assert loss == 0 and not vectors.grad.any()


@pytest.mark.parametrize("options", [{"pooling": "max"}, {"temperature": 0.0}])
def test_refuses_options_that_mean_nothing(options):
    with pytest.raises(HeadError, match=r"max|temperature"):
        flexible.make("bert").add_sentence_embedding_head("h", **options)
