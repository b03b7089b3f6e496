"""Every setting, in one frozen object.

Built once where a process starts, from ``FLOW_...`` environment variables and the flags of
the command line, and passed down; no other module reads the environment. ``flow-manager
config`` prints this class.
"""

import re
from ipaddress import ip_network
from typing import Annotated, Self

from pydantic import (
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from shared.errors import InvalidSettings
from shared.pools import DEFAULT_QUEUE, EVERY_QUEUE, checked_queue
from shared.webhook_signing import signing_keys

_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?\.?")

_URL = re.compile(r"https?://[^\s/@?#]+([/?][^\s#]*)?", re.IGNORECASE)


class Settings(BaseSettings):
    """What can be configured. Durations and sizes carry their unit in the name."""

    model_config = SettingsConfigDict(env_prefix="FLOW_", frozen=True, extra="forbid")

    # Where things are
    database_url: str = "sqlite:///.flow/flow.db"
    """``sqlite:///path`` or ``postgresql+psycopg://user:password@host/name``."""
    redis_url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    """``redis://``, ``rediss://`` or ``unix://``; may hold a password, so it is never shown."""
    task_modules: Annotated[tuple[str, ...], NoDecode] = ()
    """Modules or ``.py`` files that register tasks, separated by commas."""
    queue_name: str = "flow-manager"
    """The Redis key of the doorbell; several installations may share one Redis."""

    secrets: dict[str, SecretStr] = Field(default={})
    """What ``${secrets.NAME}`` stands for, as a JSON object. Only workers need it; the values
    are never stored or logged."""

    # Requests
    max_body_bytes: int = Field(default=10_000_000, ge=1_000)
    """A body over it is refused before it is read. 10,000 described tasks take some 2 MB."""
    max_depth: int = Field(default=100, ge=10, le=500)
    """Nesting of arrays and objects in a body."""
    max_tasks: int = Field(default=20_000, ge=1)
    """Tasks of one definition."""
    max_edges: int = Field(default=200_000, ge=1)
    """Targets of all conditions of one definition together."""
    request_timeout_seconds: float = Field(default=30, gt=0)
    """From the first byte of a request to the answer, waiting for a run not counted."""
    max_wait_seconds: float = Field(default=60, gt=0)
    """Longest ``?wait=``; a longer one is cut to this."""
    page_size: int = Field(default=50, ge=1, le=1_000)
    """Rows of a list where the client does not say."""

    # Tasks
    task_timeout_seconds: float = Field(default=3_600, gt=0)
    """For one attempt, where the definition gives no ``timeout``."""
    max_items: int = Field(default=100_000, ge=1)
    """Items of one ``for_each``. Each is a branch and a task run."""
    max_flow_depth: int = Field(default=10, ge=1, le=100)
    """Runs of sub-flows below each other. More are nearly always a flow that calls itself."""
    max_result_bytes: int = Field(default=1_000_000, ge=100)
    """The ``data`` of one task run as JSON. Larger results belong into a store of their own."""
    max_error_characters: int = Field(default=20_000, ge=500)
    """A traceback is cut in its middle beyond this."""
    max_log_lines: int = Field(default=1_000, ge=0)
    """Captured lines of one attempt; what follows is counted, not kept."""
    max_log_line_characters: int = Field(default=4_000, ge=80)
    log_flush_seconds: float = Field(default=1.0, ge=0.05)
    """A line of a running task is stored no later than this; those of a task that takes less
    than half of it go with its result. Soon enough to watch, at one write a worker."""
    log_level: str = "INFO"
    """Level of the service's own logs and of captured lines."""

    # Simulations
    simulation_max_attempts: int = Field(default=10_000, ge=1)
    """Attempts at tasks, those at the items of lists included, of one simulated run."""
    simulation_max_bytes: int = Field(default=10_000_000, ge=1_000)
    """The params and data of one simulated run, all of which are in its answer."""
    simulation_timeout_seconds: float = Field(default=5.0, gt=0)
    """What one may take on the service; 10,000 attempts take one second."""

    # Workers
    worker_concurrency: int = Field(default=100, ge=1, le=10_000)
    """Branches that one worker runs at a time."""
    worker_threads: int = Field(default=32, ge=1, le=1_000)
    """Threads for tasks that are not async; such a task also takes a slot of the above."""
    definition_cache_tasks: int = Field(default=30_000, ge=1)
    """Tasks of the definitions that a worker keeps ready to run; 10,000 take 20 MB."""
    worker_queues: Annotated[tuple[str, ...], NoDecode] = (DEFAULT_QUEUE,)
    """The queues whose branches a worker takes, separated by commas; ``*`` takes every one."""
    lease_seconds: float = Field(default=4.0, ge=0.5)
    """A worker that was silent for so long is lost. Four missed heartbeats."""
    heartbeat_seconds: float = Field(default=1.0, gt=0)
    sweep_seconds: float = Field(default=1.0, gt=0)
    """How often a worker looks for branches whose ring was lost, and the leader looks around."""
    grace_seconds: float = Field(default=20.0, ge=0)
    """What running tasks are given at SIGTERM; below docker's and Kubernetes' 30 s."""
    max_blocked_seconds: float = Field(default=60, gt=0)
    """A task that keeps the event loop from everybody else for longer ends its worker, and
    counts as a loss. Long computations belong into synchronous tasks."""
    max_losses: int = Field(default=3, ge=1)
    """Workers that a task may cost before it fails as ``WorkerLost``."""

    # Calls to other machines, by ``http_request``
    http_allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """Names that may be called whatever their addresses are, separated by commas. Others only
    at public addresses."""
    http_allowed_networks: Annotated[tuple[str, ...], NoDecode] = ()
    """Networks that may be called although they are not public, such as ``10.2.0.0/16``."""
    http_allowed_ports: Annotated[tuple[int, ...], NoDecode] = ()
    """Ports that may be called; every one where none is given."""
    http_timeout_seconds: float = Field(default=30, gt=0)
    """One call from the look-up of the name to the last byte, where the task gives no
    ``timeout``. An answer that takes longer is better asked for again."""
    http_max_response_bytes: int = Field(default=1_000_000, ge=1_000)
    """An answer, decoded. What is larger would not fit into ``max_result_bytes`` either."""
    http_max_redirects: int = Field(default=5, ge=0, le=20)
    """Redirects in a row, where a task follows them. More are a loop in nearly every case."""

    # Webhooks: what is told to others when a run ends
    webhook_urls: Annotated[tuple[SecretStr, ...], NoDecode] = Field(default=(), max_length=10)
    """Who is told, separated by commas. A URL may hold a token, so it is never shown. All
    processes need them: whoever starts a run marks it."""
    webhook_secret: SecretStr = SecretStr("")
    """Signs what is sent: ``whsec_`` and base64, or any text of 16 bytes or more. Several, with
    blanks between them, while it is changed."""
    webhook_timeout_seconds: float = Field(default=10, gt=0)
    """One attempt. A receiver that has more to do should answer first."""
    webhook_max_attempts: int = Field(default=15, ge=1, le=1_000)
    """With the delays between them some nine hours: longer than most outages."""
    webhook_max_delay_seconds: float = Field(default=21_600, ge=1)
    """What the time between two attempts grows to, from 5 seconds on by doubling."""
    public_url: Annotated[str, StringConstraints(pattern=r"^(https?://[^\s?#]+)?$")] = ""
    """Where others reach the service, for the links in what they are told."""

    # Upkeep
    retention_days: float = Field(default=30, ge=0)
    """Finished runs are deleted after it; 0 keeps them for ever."""

    # Limits of the parts
    ring_timeout_seconds: float = Field(default=0.3, gt=0)
    """What a ring may take; beyond it the workers find the work by themselves."""
    database_timeout_seconds: float = Field(default=5.0, gt=0)
    """What a connect, a lock or a commit may take before we say 503."""
    writer_queue_size: int = Field(default=20_000, ge=10)
    """Writes that may wait for the database; more are refused."""

    @field_validator(
        "task_modules",
        "worker_queues",
        "http_allowed_hosts",
        "http_allowed_networks",
        "http_allowed_ports",
        "webhook_urls",
        mode="before",
    )
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("worker_queues")
    @classmethod
    def _queues(cls, queues: tuple[str, ...]) -> tuple[str, ...]:
        if not queues:
            raise ValueError("a worker needs at least one queue")
        for queue in queues:
            if queue != EVERY_QUEUE:
                checked_queue(queue)
        return queues

    @field_validator("log_level")
    @classmethod
    def _known_level(cls, level: str) -> str:
        if level.upper() not in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"):
            raise ValueError("a level is DEBUG, INFO, WARNING, ERROR or CRITICAL")
        return level.upper()

    @field_validator("http_allowed_hosts")
    @classmethod
    def _plain_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        """As they are compared: in ASCII and lower case, without a dot at the end."""
        for host in hosts:
            if _HOST.fullmatch(host) is None:
                raise ValueError(
                    "a host is a name in ASCII (an IDN as xn--...), without scheme, port or *"
                )
        return tuple(host.lower().removesuffix(".") for host in hosts)

    @field_validator("http_allowed_networks")
    @classmethod
    def _networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        for network in networks:
            ip_network(network)
        return networks

    @field_validator("http_allowed_ports")
    @classmethod
    def _ports(cls, ports: tuple[int, ...]) -> tuple[int, ...]:
        if any(not 1 <= port <= 65_535 for port in ports):
            raise ValueError("a port is a number from 1 to 65535")
        return ports

    @field_validator("webhook_urls")
    @classmethod
    def _webhook_urls(cls, urls: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for url in urls:
            if _URL.fullmatch(url.get_secret_value()) is None:
                raise ValueError("each must begin with http:// or https:// and a host")
        return tuple({url.get_secret_value(): url for url in urls}.values())

    @field_validator("webhook_secret")
    @classmethod
    def _webhook_secret(cls, secret: SecretStr) -> SecretStr:
        if secret:
            signing_keys(secret.get_secret_value())
        return secret

    @field_validator("public_url")
    @classmethod
    def _no_slash_at_the_end(cls, url: str) -> str:
        return url.rstrip("/")

    @model_validator(mode="after")
    def _webhooks_are_signed(self) -> Self:
        if self.webhook_urls and not self.webhook_secret:
            raise ValueError("FLOW_WEBHOOK_URLS needs a FLOW_WEBHOOK_SECRET")
        return self

    @model_validator(mode="after")
    def _lease_outlives_heartbeats(self) -> Self:
        if self.lease_seconds < 2 * self.heartbeat_seconds:
            raise ValueError(
                f"FLOW_LEASE_SECONDS ({self.lease_seconds:g}) must be at least twice "
                f"FLOW_HEARTBEAT_SECONDS ({self.heartbeat_seconds:g})"
            )
        return self

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is a file on this host."""
        return self.database_url.startswith("sqlite")


def load_settings(**overrides: object) -> Settings:
    """The settings of this process: ``overrides`` before the environment before the defaults.

    Raises:
        InvalidSettings: naming each setting that cannot be used, without its value.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)  # type: ignore[arg-type]  # pydantic checks what comes in
    except ValidationError as error:
        problems = "; ".join(
            (f"FLOW_{str(e['loc'][0]).upper()}: " if e["loc"] else "")
            + e["msg"].removeprefix("Value error, ")
            for e in error.errors(include_input=False, include_url=False)
        )
        raise InvalidSettings(problems) from None
