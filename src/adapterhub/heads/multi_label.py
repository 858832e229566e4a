"""Any number of labels for a whole input."""

import torch.nn.functional as F
from torch import Tensor

from adapterhub.heads.base import register_head
from adapterhub.heads.classification import ClassificationHead


@register_head("multilabel_classification")
class MultiLabelHead(ClassificationHead):
    """Binary cross-entropy of each label over ``labels [batch, num_labels]`` of zeros and ones."""

    problem_type = "multi_label_classification"

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean loss over labels and batch."""
        return multi_label_loss(logits, labels)


def multi_label_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean binary cross-entropy over ``[batch, num_labels]``."""
    return F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))
