"""The settings of a server, from arguments, then the environment (``ADAPTERHUB_SERVING_...``), then defaults."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

GIB = 1 << 30


class Settings(BaseSettings):
    """How a model is served; each can be given as ``ADAPTERHUB_SERVING_<NAME>`` in the environment.

    Attributes:
        model: the base model: a name, a folder, or ``minilm``.
        device: that it runs on.
        adapters: a folder of folders of adapters; their paths in it are their names.
        hub: the address of a hub, from which adapters are fetched that the folder does not have.
        pinned: names of adapters that are loaded at the start, and stay.
        adapter_bytes: of the adapters in the model; what was not used for the longest makes room.
        refresh_seconds: how often newer versions of what is loaded are looked for; 0 for when somebody asks alone.
        tokens: whoever asks has to show one of these; by default anybody may ask.
        cors_origins: of web pages elsewhere that may ask; ``*`` for all.
        requests_per_minute: of one token, or one address without a token.
        trusted_proxies: addresses of proxies whose word on who asks is taken (``X-Forwarded-For``).
        access_log: whether every request is told on standard error, as a line of JSON.
        batch_tokens: of a batch, padding included.
        batch_wait: seconds for which a row waits for others before a batch that is not full is run.
        queue_rows: rows that may wait; requests with more are refused.
        max_inputs: of one request.
        max_characters: of one text.
        max_tokens: of one row; longer texts are cut off, or read in windows. By default what the model reads, and 512
            at most.
        max_body_bytes: of one request.
        timeout: seconds in which a request is answered, or refused, unless it says so itself.
    """

    model_config = SettingsConfigDict(env_prefix="ADAPTERHUB_SERVING_", extra="ignore")

    model: str = "minilm"
    device: str = "cpu"
    adapters: Path | None = None
    hub: str = ""
    pinned: list[str] = Field(default_factory=list)
    adapter_bytes: int = 2 * GIB
    refresh_seconds: float = 60.0
    tokens: list[SecretStr] = Field(default_factory=list)
    cors_origins: list[str] = Field(default_factory=list)
    requests_per_minute: int = 60_000
    trusted_proxies: list[str] = Field(default_factory=lambda: ["127.0.0.1", "::1"])
    access_log: bool = False
    batch_tokens: int = 2048
    batch_wait: float = 0.002
    queue_rows: int = 4096
    max_inputs: int = 256
    max_characters: int = 100_000
    max_tokens: int | None = None
    max_body_bytes: int = 8 << 20
    timeout: float = 30.0
