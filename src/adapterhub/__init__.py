"""Adapters for any Hugging Face transformer: small trained parts stitched into a frozen base model."""

__version__ = "0.1.0"
