"""The one settings class. Flags of `hyperserve serve` override the environment, which overrides `.env`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from sqlalchemy.engine import URL

REPOSITORY = Path(__file__).resolve().parents[2]
"""The server runs from a checkout or an image of one."""

_HOST = re.compile(r"\*|(\*\.)?[a-z0-9._-]+|\[[0-9a-f:.]+\]")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def _split(value: Any) -> Any:
    return (
        tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value
    )


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
"""Names in one variable, separated by commas."""


class Settings(BaseSettings):
    """Every option is an environment variable with the prefix `HYPERSERVE_`."""

    model_config = SettingsConfigDict(
        env_prefix="HYPERSERVE_",
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        # An input may be a secret, or a URL with a password.
        hide_input_in_errors=True,
    )

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    allowed_hosts: Names = Field(
        default=(),
        description="Further host names, separated by commas, that requests may be addressed to; `*.` begins a name "
        "with all its subdomains, and `*` alone allows every name.",
    )
    cors_origins: Names = Field(
        default=(),
        description="Origins, separated by commas, whose web pages may use the API, such as http://localhost:3000.",
    )
    workers: int = Field(default=1, ge=1, le=64, description="Serving processes.")
    data_dir: Path = Field(default=Path("./data"), description="Where the database and blobs live.")
    database_url: str | None = Field(
        default=None, description="SQLAlchemy URL of the state of record; SQLite in DATA_DIR when unset."
    )
    blob_url: str | None = Field(
        default=None,
        description="Where raw inputs live, such as s3://bucket/prefix; a folder in DATA_DIR when unset.",
    )
    learners_dir: Path = Field(
        default=REPOSITORY / "models" / "zoo",
        description="Folder of the learners to serve, each in a folder of its name.",
    )
    streams_dir: Path = Field(
        default=REPOSITORY / "models" / "streams",
        description="Folder of the bundled streams that everybody may query, each in a folder of its name.",
    )
    default_image_learner: str = Field(default="glyphs", description="Learner of image tasks that name none.")
    default_vector_learner: str = Field(
        default="vectors", description="Learner of vector tasks that name none."
    )
    default_regression_learner: str = Field(
        default="regression", description="Learner of regression tasks that name none."
    )
    device: str = Field(default="cpu", description="torch device of the serving engine.")
    arena_bytes: int = Field(default=256 << 20, gt=0, description="Memory for the weights of resident tasks.")
    queue_limit: int = Field(
        default=2048, gt=0, description="Number of waiting requests above which new ones get 503."
    )
    connections: int = Field(
        default=4096,
        gt=0,
        description="Open connections of a serving process, as far as the limit of open files leaves room.",
    )
    body_bytes: int = Field(default=512 << 20, gt=0, description="Memory for all request bodies together.")
    body_seconds: float = Field(default=60, gt=0, description="Time that a client has to send its body.")

    redis_url: str | None = Field(
        default=None, description="Redis that shares weights between processes and wakes them; needs SECRET."
    )
    secret: SecretStr | None = Field(
        default=None,
        min_length=16,
        description="Signs values in Redis; without Redis, generated and stored in DATA_DIR if unset.",
    )
    worker: bool = Field(default=True, description="Let `serve` run a worker as well.")
    worker_jobs: int = Field(default=1, ge=1, le=64, description="Jobs that a worker runs at a time.")
    worker_device: str = Field(default="cpu", description="torch device of the worker's jobs.")
    lease_seconds: float = Field(
        default=15, ge=0.5, le=3600, description="Silence of a worker after which its job goes to another."
    )
    job_kinds: str | None = Field(
        default=None, description="Module whose KINDS are further kinds of jobs for the worker."
    )
    prediction_seconds: float = Field(
        default=7 * 86_400, gt=0, description="Time for which predictions made with store=true take feedback."
    )
    job_seconds: float = Field(
        default=30 * 86_400, gt=0, description="Time after which `gc` drops finished jobs."
    )
    drain_seconds: float = Field(
        default=1,
        ge=0,
        le=60,
        description="Time after SIGTERM for which requests are still accepted while /readyz already fails.",
    )
    log_format: Literal["json", "console"] = Field(
        default="json", description="One JSON object per line, or lines for people."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Lowest level of the lines logged."
    )

    @field_validator("data_dir")
    @classmethod
    def _checked_data_dir(cls, folder: Path) -> Path:
        try:
            str(folder).encode()
        except UnicodeEncodeError:
            raise ValueError("the name of the folder must be UTF-8") from None
        return folder

    @field_validator("allowed_hosts")
    @classmethod
    def _checked_hosts(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        hosts = tuple(name.lower().rstrip(".") for name in names)
        if not all(_HOST.fullmatch(host) for host in hosts):
            raise ValueError("give names without scheme and port, separated by commas")
        return hosts

    @field_validator("cors_origins")
    @classmethod
    def _checked_origins(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        origins = tuple(name.lower().rstrip("/") for name in names)
        if not all(_ORIGIN.fullmatch(origin) for origin in origins):
            raise ValueError("name each origin as scheme://host or scheme://host:port, separated by commas")
        return tuple(
            origin.removesuffix(_DEFAULT_PORTS.get(origin.partition(":")[0], " ")) for origin in origins
        )

    @property
    def database(self) -> str:
        """The URL in the form that SQLAlchemy's asyncio engine takes."""
        url = self.database_url
        if url is None:
            # A name may hold what means something else in a URL.
            path = str((self.data_dir / "hyperserve.db").resolve())
            return URL.create("sqlite+aiosqlite", database=path).render_as_string(hide_password=False)
        for short, full in (("postgresql:", "postgresql+psycopg:"), ("postgres:", "postgresql+psycopg:")):
            url = full + url[len(short) :] if url.startswith(short) else url
        return "sqlite+aiosqlite:" + url[len("sqlite:") :] if url.startswith("sqlite:") else url

    @property
    def defaults(self) -> dict[str, str]:
        """Default learners by kind of input, and that of regression."""
        return {
            "image": self.default_image_learner,
            "vector": self.default_vector_learner,
            "regression": self.default_regression_learner,
        }

    @property
    def chosen_defaults(self) -> dict[str, str]:
        """Default learners that were set explicitly: they must exist, while a folder may lack the usual ones."""
        return {
            kind: name
            for kind, name in self.defaults.items()
            if f"default_{kind}_learner" in self.model_fields_set
        }

    @property
    def uses_sqlite(self) -> bool:
        return self.database.startswith("sqlite")
