"""Adapters of every method, checked in a small random model of every architecture that transformers knows."""

from adapterhub.sweep.outcome import Outcome, examine
from adapterhub.sweep.report import Report
from adapterhub.sweep.run import sweep

__all__ = ["Outcome", "Report", "examine", "sweep"]
