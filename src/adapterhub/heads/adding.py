"""One method for each kind of head, so that the options of each are in its signature."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Literal

Labels = Mapping[int, str] | None
Options = dict[str, Any]


class AddHeadMixin:
    """The ``add_..._head`` methods. Each makes the new head the active one, unless ``set_active=False``.

    Raises:
        HeadError: for options that do not go together, or do not fit the base model.
        AdapterExistsError: if there is a head of this name, unless ``overwrite_ok``.
    """

    @abstractmethod
    def add_custom_head(
        self, head_type: str, head_name: str, overwrite_ok: bool = False, set_active: bool = True, **options: Any
    ) -> None:
        """Add a head of any registered type; ``options`` are the fields of its configuration."""

    def add_classification_head(
        self,
        head_name: str,
        num_labels: int | None = None,
        layers: int = 2,
        activation_function: str | None = "tanh",
        overwrite_ok: bool = False,
        multilabel: bool = False,
        id2label: Labels = None,
        use_pooler: bool | None = None,
        set_active: bool = True,
    ) -> None:
        """One label for each input (with ``multilabel`` any number of them; with one label, a number).

        ``num_labels`` is by default as many as ``id2label`` names, or 2.
        """
        options: Options = {"num_labels": num_labels, "layers": layers, "activation_function": activation_function}
        options |= {"id2label": id2label, "use_pooler": use_pooler}
        kind = "multilabel_classification" if multilabel else "classification"
        self.add_custom_head(kind, head_name, overwrite_ok, set_active, **options)

    def add_regression_head(
        self,
        head_name: str,
        layers: int = 2,
        activation_function: str | None = "tanh",
        overwrite_ok: bool = False,
        use_pooler: bool | None = None,
        set_active: bool = True,
    ) -> None:
        """One number for each input: a classification head with one label."""
        options = {"layers": layers, "activation_function": activation_function, "use_pooler": use_pooler}
        self.add_custom_head("classification", head_name, overwrite_ok, set_active, num_labels=1, **options)

    def add_image_classification_head(
        self,
        head_name: str,
        num_labels: int | None = None,
        layers: int = 1,
        activation_function: str | None = "tanh",
        overwrite_ok: bool = False,
        multilabel: bool = False,
        id2label: Labels = None,
        use_pooler: bool | None = None,
        set_active: bool = True,
    ) -> None:
        """One label (with ``multilabel`` any number of them) for each image."""
        options: Options = {"num_labels": num_labels, "layers": layers, "activation_function": activation_function}
        options |= {"id2label": id2label, "use_pooler": use_pooler, "multilabel": multilabel}
        self.add_custom_head("image_classification", head_name, overwrite_ok, set_active, **options)

    def add_multiple_choice_head(
        self,
        head_name: str,
        num_choices: int = 2,
        layers: int = 2,
        activation_function: str | None = "tanh",
        overwrite_ok: bool = False,
        id2label: Labels = None,
        use_pooler: bool | None = None,
        set_active: bool = True,
    ) -> None:
        """The best of ``num_choices`` texts; inputs are ``[batch, choices, seq]``."""
        options: Options = {"num_choices": num_choices, "layers": layers, "activation_function": activation_function}
        options |= {"id2label": id2label, "use_pooler": use_pooler}
        self.add_custom_head("multiple_choice", head_name, overwrite_ok, set_active, **options)

    def add_tagging_head(
        self,
        head_name: str,
        num_labels: int | None = None,
        layers: int = 1,
        activation_function: str | None = "tanh",
        overwrite_ok: bool = False,
        id2label: Labels = None,
        set_active: bool = True,
    ) -> None:
        """One label for each token."""
        options: Options = {"num_labels": num_labels, "layers": layers, "activation_function": activation_function}
        self.add_custom_head("tagging", head_name, overwrite_ok, set_active, id2label=id2label, **options)

    def add_qa_head(
        self,
        head_name: str,
        num_labels: int = 2,
        layers: int = 1,
        activation_function: str | None = "tanh",
        overwrite_ok: bool = False,
        id2label: Labels = None,
        set_active: bool = True,
    ) -> None:
        """Start and end of the span that answers a question."""
        options: Options = {"num_labels": num_labels, "layers": layers, "activation_function": activation_function}
        self.add_custom_head("question_answering", head_name, overwrite_ok, set_active, id2label=id2label, **options)

    def add_dependency_parsing_head(
        self,
        head_name: str,
        num_labels: int | None = None,
        overwrite_ok: bool = False,
        id2label: Labels = None,
        set_active: bool = True,
    ) -> None:
        """For each word its head and their relation; the model gets ``word_starts`` beside its input."""
        options: Options = {"num_labels": num_labels, "id2label": id2label}
        self.add_custom_head("dependency_parsing", head_name, overwrite_ok, set_active, **options)

    def add_masked_lm_head(
        self,
        head_name: str,
        activation_function: str | None = "gelu",
        layers: int = 2,
        overwrite_ok: bool = False,
        layer_norm: bool = True,
        bias: bool = True,
        set_active: bool = True,
    ) -> None:
        """The tokens at masked positions; the last layer is the base model's embedding matrix."""
        options = {"layers": layers, "activation_function": activation_function, "layer_norm": layer_norm}
        self.add_custom_head("masked_lm", head_name, overwrite_ok, set_active, bias=bias, **options)

    def add_causal_lm_head(
        self,
        head_name: str,
        activation_function: str | None = "gelu",
        layers: int = 2,
        overwrite_ok: bool = False,
        layer_norm: bool = True,
        bias: bool = True,
        set_active: bool = True,
    ) -> None:
        """The next token; the last layer is the base model's embedding matrix."""
        options = {"layers": layers, "activation_function": activation_function, "layer_norm": layer_norm}
        self.add_custom_head("causal_lm", head_name, overwrite_ok, set_active, bias=bias, **options)

    def add_seq2seq_lm_head(
        self, head_name: str, layers: int = 1, overwrite_ok: bool = False, bias: bool = False, set_active: bool = True
    ) -> None:
        """A text in answer to a text; the last layer is the base model's embedding matrix."""
        self.add_custom_head("seq2seq_lm", head_name, overwrite_ok, set_active, layers=layers, bias=bias)

    def add_sentence_embedding_head(
        self,
        head_name: str,
        pooling: Literal["mean", "cls", "last"] = "mean",
        width: int | None = None,
        normalize: bool = True,
        temperature: float = 0.05,
        overwrite_ok: bool = False,
        set_active: bool = True,
    ) -> None:
        """One vector for each text, trained to be near to those of texts with the same ``labels``."""
        options = {"pooling": pooling, "width": width, "normalize": normalize, "temperature": temperature}
        self.add_custom_head("sentence_embedding", head_name, overwrite_ok, set_active, **options)
