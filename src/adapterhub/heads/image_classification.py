"""Labels for an image."""

from dataclasses import dataclass

from torch import Tensor
from transformers.modeling_outputs import ImageClassifierOutput

from adapterhub.heads.base import register_head
from adapterhub.heads.classification import ClassificationConfig, ClassificationHead
from adapterhub.heads.multi_label import multi_label_loss


@dataclass(frozen=True)
class ImageClassificationConfig(ClassificationConfig):
    """As for texts, and whether an image may have several labels."""

    layers: int = 1
    multilabel: bool = False


@register_head("image_classification")
class ImageClassificationHead(ClassificationHead):
    """Classification, or multi-label classification, of images."""

    config_class = ImageClassificationConfig
    plain_output = ImageClassifierOutput
    config: ImageClassificationConfig

    @property
    def problem_type(self) -> str | None:
        """As for texts, or multi-label classification."""
        return "multi_label_classification" if self.config.multilabel else super().problem_type

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean loss over the batch."""
        return multi_label_loss(logits, labels) if self.config.multilabel else super().loss(logits, labels)
