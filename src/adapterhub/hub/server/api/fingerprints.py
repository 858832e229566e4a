"""Fingerprints of base models in requests."""

from typing import Annotated, Self

from pydantic import BaseModel, Field, model_validator

from adapterhub.fingerprint import Fingerprint

_Digest = Annotated[str, Field(max_length=256)]
_MOST = 1 << 31
_PROBE = 4096  # letters of base64


class FingerprintBody(BaseModel):
    """What tells a base model from others, as ``adapterhub.Fingerprint.to_dict`` gives it."""

    name: str = Field(max_length=1024)
    revision: str | None = Field(None, max_length=96)
    model_type: str = Field(max_length=64)
    hidden_size: int = Field(ge=0, le=_MOST)
    layers: int = Field(ge=0, le=_MOST)
    vocab_size: int | None = Field(None, ge=0, le=_MOST)
    shape: _Digest | None = None
    weights: _Digest | None = None
    probe: str | None = Field(None, max_length=_PROBE, description="64 numbers: base64 of little-endian float32")
    tokenizer: _Digest | None = None

    @model_validator(mode="after")
    def _readable(self) -> Self:
        self.read()
        return self

    def read(self) -> Fingerprint:
        """As the library has it.

        Raises:
            CorruptCheckpointError: if the probe is none.
        """
        return Fingerprint.from_dict(self.model_dump(), "fingerprint")
