"""Switchable embeddings, and the parsing head."""

import adapters
import torch
import transformers as tf
from common import CONFIG, shaken, tried


class Words:
    """A tokenizer as far as embeddings ask."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def get_vocab(self) -> dict[str, int]:
        return {f"w{index}": index for index in range(self.count)}


def language_model():
    torch.manual_seed(0)
    made = shaken(tf.BertForMaskedLM(tf.BertConfig(**CONFIG)))
    adapters.init(made)
    made.add_embeddings("small", Words(20))
    return made


def scores() -> str:
    made = language_model()
    shape = made(torch.tensor([[3, 4]])).logits.shape[-1]
    return f"a masked-language model with embeddings for 20 tokens scores {shape} tokens"


def loss() -> str:
    made, ids = language_model(), torch.tensor([[3, 4]])
    return tried("its loss", lambda: made(ids, labels=ids).loss)


def scaled() -> str:
    config = tf.MBartConfig(
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=20,
        decoder_ffn_dim=20,
        vocab_size=60,
        scale_embedding=True,
    )
    made = tf.MBartModel(config)
    adapters.init(made)
    before = made.get_input_embeddings()(torch.tensor([5]))
    made.add_embeddings("same", Words(60), reference_embedding="default", reference_tokenizer=Words(60))
    ratio = (before / made.get_input_embeddings()(torch.tensor([5]))).mean()
    return f"mBART's embeddings (multiplied by 4), all copied: what the table gives is smaller by {ratio:.1f}"


def trees(pad: int):
    made = adapters.BertAdapterModel(tf.BertConfig(**(CONFIG | {"pad_token_id": pad})))
    made.add_dependency_parsing_head("tree", num_labels=3)
    return shaken(made).heads["tree"]


def first_word() -> str:
    head, hidden = trees(pad=1), torch.randn(1, 6, 16)
    words = head._merge_subword_tokens(hidden, torch.tensor([[1, 2, 4, 5, 1, 1]]))  # words of 1, 2 and 1 tokens
    found = [index for index in range(1, 6) if torch.allclose(words[0, 0], hidden[0, index])]
    mean = torch.allclose(words[0, 0], hidden[0, 2:4].mean(0))
    return f"parsing where padding is token 1 (RoBERTa): word 1 is the mean of word 2's tokens: {mean and not found}"


def root() -> str:
    head, hidden = trees(pad=0), torch.randn(1, 6, 16)
    starts, arcs = torch.tensor([[1, 2, 4, 5, 0, 0]]), torch.tensor([[2, 0, 2, 0, 0, 0]])
    relations = torch.tensor([[0, 1, 2, 0, 0, 0]])
    other = relations.clone()
    other[0, 1] = 2  # of the word whose head is the root
    losses = [head((hidden,), word_starts=starts, labels_arcs=arcs, labels_rels=one)[0] for one in (relations, other)]
    return (
        f"parsing with BERT: the loss for another label of the root's word is the same: {bool(losses[0] == losses[1])}"
    )


CHECKS = (scores, loss, scaled, first_word, root)
