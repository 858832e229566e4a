"""Checkpoints of PEFT: its methods that have an equal here, read and written."""

from adapterhub.checkpoints.peft.folder import PeftCheckpoint, peft_files, read_peft
from adapterhub.checkpoints.peft.layout import PeftLayout

__all__ = ["PeftCheckpoint", "PeftLayout", "peft_files", "read_peft"]
