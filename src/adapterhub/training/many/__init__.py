"""Many adapters trained at once over one frozen base model, in one process."""

from adapterhub.training.many.runs import Outcome, Run
from adapterhub.training.many.training import train_many

__all__ = ["Outcome", "Run", "train_many"]
