"""The settings of a server, from arguments, then the environment (``ADAPTERHUB_...``), then defaults."""

import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

MIB = 1 << 20


class Settings(BaseSettings):
    """How a hub is run; every one has a default, and can be given as ``ADAPTERHUB_<NAME>`` in the environment.

    Attributes:
        directory: the folder of the database, the files and the secret.
        database: an address of SQLAlchemy; by default SQLite in the folder.
        storage: ``s3://bucket/prefix`` with ``storage_options`` for it; by default a folder in ``directory``.
        storage_options: of obstore's S3 store: ``endpoint``, ``region``, ``access_key_id`` and more.
        secret: what signs links and sessions; by default made once and kept in the folder, readable by its owner alone.
        public_url: the address that users see, where it is not that of the request (behind a proxy).
        open_registration: whether anyone may make an account on the web site.
        uploads: ``auto`` sends large files of new clients to the Xet sink, ``regular`` has them all in the commit.
        regular_bytes: files up to this size come in the commit itself.
        part_bytes: larger files come in parts of this size from clients that speak git LFS.
        max_file_bytes, max_commit_files, quota_bytes: of one file, one commit, one account.
        requests_per_minute, writes_per_minute: of one account, or one address without an account.
        trusted_proxies: addresses of proxies whose word on who asks is taken (``X-Forwarded-For``).
        access_log: whether every request is told on standard error, as a line of JSON.
        open_metrics: whether anybody may read ``/metrics``, not only administrators and this machine.
        scrub_days: how often all stored bytes are read again, to see whether they are whole; 0 for never.
        private_hosts: ``host:port`` of machines in a private network that webhooks may be sent to.
        mirror_upstreams: the hubs that may be mirrored.
        mirror_hours: how often mirrors are refreshed; 0 for when ``hub mirror refresh`` says so alone.
        mirror_tokens: tokens for the hubs that are mirrored, by the address of the hub.
        accel: a path by which nginx serves the store itself (``X-Accel-Redirect``).
        upstream: a hub from which models and files that are not here are fetched through; "" for none.
        upstream_allowed: patterns of the repositories that may be fetched through, beside the base models of adapters
            that are public here.
        upstream_bytes: how much of what was fetched through is kept; what was not asked for the longest goes first.
        serving_url: a server of predictions (``adapterhub serve``), by which visitors try adapters on their pages.
        serving_token: what this hub shows there.
        oidc_issuer, oidc_client_id, oidc_client_secret: sign-in by another service.
    """

    model_config = SettingsConfigDict(env_prefix="ADAPTERHUB_", extra="ignore")

    directory: Path = Path("hub")
    database: str = ""
    storage: str = ""
    storage_options: dict[str, str] = Field(default_factory=dict)
    secret: SecretStr = SecretStr("")
    public_url: str = ""
    open_registration: bool = False
    uploads: Literal["auto", "regular"] = "auto"
    regular_bytes: int = MIB
    part_bytes: int = 64 * MIB
    max_file_bytes: int = 2048 * MIB
    max_commit_files: int = 1000
    quota_bytes: int = 50 * 1024 * MIB
    requests_per_minute: int = 3000
    writes_per_minute: int = 600
    trusted_proxies: list[str] = Field(default_factory=lambda: ["127.0.0.1", "::1"])
    access_log: bool = False
    open_metrics: bool = False
    scrub_days: int = 7
    private_hosts: list[str] = Field(default_factory=list)
    mirror_upstreams: list[str] = Field(default_factory=lambda: ["https://huggingface.co"])
    mirror_hours: float = 24.0
    mirror_tokens: dict[str, SecretStr] = Field(default_factory=dict)
    accel: str = ""
    upstream: str = "https://huggingface.co"
    upstream_allowed: list[str] = Field(default_factory=list)
    upstream_bytes: int = 20 * 1024 * MIB
    serving_url: str = ""
    serving_token: SecretStr = SecretStr("")
    oidc_issuer: str = ""
    oidc_client_id: str = ""
    oidc_client_secret: SecretStr = SecretStr("")

    @property
    def database_url(self) -> str:
        """The address of the database."""
        return self.database or f"sqlite:///{(self.directory / 'hub.db').absolute()}"

    def signing_key(self) -> str:
        """The secret; made and kept in the folder at the first call where none was given."""
        if given := self.secret.get_secret_value():
            return given
        path, mine = self.directory / "secret", self.directory / f".secret.{secrets.token_hex(4)}"
        self.directory.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            with os.fdopen(os.open(mine, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
                file.write(secrets.token_urlsafe(32))
            with suppress(FileExistsError):  # another worker was first
                os.link(mine, path)
            mine.unlink()
        return path.read_text(encoding="ascii").strip()
