"""Every option of the server, once: the command line, its variables and docs/options.md are made from here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import Field, dataclass, field, fields
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from zizq.engine.budgets import MAX_BUDGETS
from zizq.errors import ConfigError
from zizq.policy import Backoff, Defaults
from zizq.store.base import CommitMode
from zizq.store.opening import StoreOptions
from zizq.store.url import StoreUrl
from zizq.words import LOG_LEVELS, duration, parse_duration, parse_size, size


@dataclass(frozen=True)
class Option:
    """How one setting appears to people.

    Args:
        help: What it does, in one sentence.
        parse: From text to its value; raises ValueError.
        show: From its value to text.
        metavar: What the text stands for.
        choices: The only values, where there are few.
        short: A one-letter flag.
        flag: Whether it has a command-line flag, beside its variable.
        switch: Whether it is on or off, with no value.
    """

    help: str
    parse: Callable[[str], Any] = str
    show: Callable[[Any], str] = str
    metavar: str = "TEXT"
    choices: tuple[str, ...] = ()
    short: str | None = None
    flag: bool = True
    switch: bool = False


def _setting(default: Any, help: str, **option: Any) -> Any:
    return field(default=default, metadata={"option": Option(help, **option)})


def _duration(default_ms: int, help: str) -> Any:
    return _setting(default_ms, help, parse=parse_duration, show=duration, metavar="DURATION")


def _count(default: int, help: str, **option: Any) -> Any:
    return _setting(default, help, parse=_natural, metavar="COUNT", **option)


def _bytes(default: int, help: str) -> Any:
    return _setting(default, help, parse=parse_size, show=size, metavar="SIZE")


def _path(help: str) -> Any:
    return _setting(None, help, parse=Path, metavar="PATH")


def _one_of(default: str | None, choices: tuple[str, ...], help: str) -> Any:
    return _setting(default, help, parse=lambda text: _chosen(text, choices), metavar="CHOICE", choices=choices)


def _natural(text: str) -> int:
    if not text.strip().isdecimal():
        raise ValueError(f"{text!r} is not a whole number of 0 or more")
    return int(text)


def _port(text: str) -> int:
    port = _natural(text)
    if port > 65_535:
        raise ValueError(f"{text!r} is not a port: 0 to 65535")
    return port


def _chosen(text: str, choices: tuple[str, ...]) -> str:
    if text not in choices:
        raise ValueError(f"{text!r} is not one of {', '.join(choices)}")
    return text


@dataclass(frozen=True)
class Address:
    """Where one API of the server is served, and with which certificates; each has its own (protocol.md#11.1).

    Args:
        api: Which one: `primary` or `admin`.
        host: The address to listen on.
        port: The port; 0 lets the system choose.
        tls_cert: Certificate chain (PEM); None for no TLS.
        tls_key: Its key.
        tls_client_ca: Authority that client certificates must come from; None asks for none.
    """

    api: str
    host: str
    port: int
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None

    @property
    def scheme(self) -> str:
        """How its URL begins."""
        return "https" if self.tls_cert else "http"

    @property
    def tls_files(self) -> tuple[Path, ...]:
        """Its certificates and keys, as far as it has any."""
        return tuple(filter(None, (self.tls_cert, self.tls_key, self.tls_client_ca)))

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches it."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def remedy(self) -> str:
        """What to do when it cannot be listened on."""
        return "choose another --admin-port, or --no-admin" if self.api == "admin" else "choose another --port"

    def check(self) -> None:
        """Hold the certificates to their rules.

        Raises:
            ConfigError: When one comes without the other that it needs.
        """
        cert, key, ca = (self._flag(name) for name in ("cert", "key", "client-ca"))
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ConfigError(f"{cert} and {key} go together: give both or neither")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ConfigError(f"{ca} needs {cert} and {key}")

    def _flag(self, name: str) -> str:
        return f"--{'admin-' if self.api == 'admin' else ''}tls-{name}"


MAX_TCP_TIMEOUT_MS = 2**31 - 1
"""The system takes no more for a socket."""
_MODES = tuple(mode.value for mode in CommitMode)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The options of `zizq serve`, checked. Durations are in milliseconds, sizes in bytes."""

    root_dir: Path = _setting(
        Path("zizq-root"), "Folder of the server: its store, tokens and logs.", parse=Path, metavar="PATH"
    )
    store: StoreUrl | None = _setting(
        None,
        "Database that holds the jobs in place of that folder, as postgresql://user@host/database; any number of"
        " servers may share it.",
        parse=StoreUrl,
        metavar="URL",
    )
    host: str = _setting("127.0.0.1", "Address to listen on.", metavar="HOST")
    port: int = _setting(7890, "Port to listen on; 0 lets the system choose one.", parse=_port, metavar="PORT")
    heartbeat_interval: int = _duration(3000, "Silence on a take stream after which a heartbeat is sent.")
    global_in_flight_limit: int = _count(1024, "Jobs in flight over all take streams; 0 for no limit.", short="l")
    default_retry_limit: int = _count(25, "Retries of a job that sets none.")
    default_backoff_exponent: float = _setting(
        4.0, "Exponent of the retry delay of a job that sets no backoff.", parse=float, metavar="NUMBER"
    )
    default_backoff_base: int = _duration(15_000, "Constant part of that delay.")
    default_backoff_jitter: int = _duration(30_000, "Random part of that delay, for each attempt.")
    default_completed_job_retention: int = _duration(0, "How long a completed job is kept; 0 deletes it at once.")
    default_dead_job_retention: int = _duration(604_800_000, "How long a dead job is kept; 0 deletes it at once.")
    max_worker_deaths: int = _count(
        5, "Workers that may die while they hold a job; with one more it is dead. 0 for any number."
    )
    reaper_check_interval: int = _duration(30_000, "How often jobs past their retention are deleted.")
    default_commit_mode: str | None = _one_of(
        None,
        _MODES,
        "Whether writes survive a power cut (fsync) or only the death of the server (buffered);"
        " when not given, enqueues are fsync and all other writes buffered.",
    )
    enqueue_commit_mode: str | None = _one_of(
        None, _MODES, "The same for enqueues alone; when not given, as --default-commit-mode says."
    )
    cache_size: int = _bytes(8 * 2**20, "Memory for pages of the database in the folder; of no use with --store.")
    max_body_size: int = _bytes(16 * 2**20, "Largest request body; a larger one is answered with 413.")
    max_body_memory: int = _bytes(
        256 * 2**20,
        "Memory for bodies on their way in or out, half of it for one client; more is answered with 503 or 429.",
    )
    max_requests: int = _count(
        4096, "Requests that wait for their answer, half of it from one client; more is answered with 503 or 429."
    )
    max_streams: int = _count(12_000, "Open take streams; one more is answered with 503.")
    max_connections: int = _count(16_000, "Open connections; one more is not let in before another ends.")
    filter_timeout: int = _duration(1000, "Time that a jq filter may take for a batch of a thousand jobs.")
    filter_memory: int = _bytes(256 * 2**20, "Memory that a jq filter may take.")
    enqueue_batch_size: int = _count(
        1000, "Enqueues that share a commit at most; small ones that come at once count as one."
    )
    complete_batch_size: int = _count(
        1000, "Requests of each other kind that share a commit at most. After 1,000 acknowledged jobs the rest waits."
    )
    scheduler_batch_size: int = _count(200, "Scheduled jobs that are promoted together at most.", flag=False)
    max_budgets: int = _count(MAX_BUDGETS, "Budgets that the server holds at most.")
    tcp_user_timeout: int = _duration(
        30_000, "Time after which a peer that does not answer is cut off; 0 for the system's."
    )
    drain_timeout: int = _duration(30_000, "How long open requests may take to finish at shutdown.")
    tls_cert: Path | None = _path("Certificate chain (PEM); needs --tls-key.")
    tls_key: Path | None = _path("Private key (PEM).")
    tls_client_ca: Path | None = _path("Authority (PEM) that client certificates must come from.")
    auth: str = _one_of(
        "off", ("off", "tokens"), "Who may call: everybody (off), or who shows a token or certificate that is known."
    )
    token_file: Path | None = _path("File of tokens (ROOT/tokens.json), which `zizq token` keeps.")
    reset: str = _one_of("enabled", ("enabled", "disabled"), "Whether POST /reset, which deletes everything, is done.")
    admin_host: str = _setting("127.0.0.1", "Address of the admin API.", metavar="HOST")
    admin_port: int = _setting(
        8901, "Port of the admin API; 0 lets the system choose one.", parse=_port, metavar="PORT"
    )
    no_admin: bool = _setting(False, "Serve no admin API.", switch=True)
    dashboard: str | None = _one_of(
        None,
        ("on", "read-only", "off"),
        "Whether the admin port has a dashboard, and whether that may act; when not given, it has one that may where"
        " zizq[dashboard] is installed.",
    )
    admin_tls_cert: Path | None = _path("Certificate chain (PEM) of the admin API; needs --admin-tls-key.")
    admin_tls_key: Path | None = _path("Private key (PEM) of the admin API.")
    admin_tls_client_ca: Path | None = _path(
        "Authority (PEM) that client certificates of the admin API must come from."
    )
    log_format: str | None = _one_of(
        None,
        ("pretty", "compact", "json"),
        "Form of log lines; when not given, pretty on a terminal and compact elsewhere.",
    )
    log_level: str = _one_of("info", tuple(LOG_LEVELS), "Least level that is logged.")
    log_filter: str | None = _setting(
        None,
        "Levels by part of the program, as in `warn,zizq=info,zizq::take=debug`; wins over --log-level.",
        metavar="LEVELS",
        flag=False,
    )
    log_to_disk: bool = _setting(False, "Log to files and not to standard output.", switch=True)
    log_dir: Path | None = _path("Folder of log files (ROOT/log); implies --log-to-disk.")
    log_rotation: str = _one_of("daily", ("daily", "hourly", "never"), "When a new log file is begun.")
    log_max_size: int = _bytes(100 * 10**6, "Size at which a log file is rotated.")
    log_max_files: int = _count(10, "Rotated log files that are kept.")

    def __post_init__(self) -> None:
        """Hold options that belong together to their rules.

        Raises:
            ConfigError: When they contradict each other.
        """
        self.primary.check()
        self.admin.check()
        for name in ("heartbeat_interval", "reaper_check_interval", "enqueue_batch_size", "complete_batch_size",
                     "scheduler_batch_size", "max_body_size", "filter_timeout", "filter_memory"):  # fmt: skip
            if getattr(self, name) < 1:
                raise ConfigError(f"{flag_of(name)} must be 1 or more, not {getattr(self, name)}")
        if self.tcp_user_timeout > MAX_TCP_TIMEOUT_MS:
            raise ConfigError(f"--tcp-user-timeout must be at most 24d, not {self.tcp_user_timeout}ms")

    @property
    def place(self) -> Path | StoreUrl:
        """Where the store is."""
        return self.store or self.root_dir

    @property
    def tokens_path(self) -> Path:
        """Where the tokens are."""
        return self.token_file or self.root_dir / "tokens.json"

    @property
    def primary(self) -> Address:
        """Where the API of clients and workers is served."""
        return Address("primary", self.host, self.port, self.tls_cert, self.tls_key, self.tls_client_ca)

    @property
    def admin(self) -> Address:
        """Where the admin API is served, unless there is none."""
        return Address(
            "admin",
            self.admin_host,
            self.admin_port,
            self.admin_tls_cert,
            self.admin_tls_key,
            self.admin_tls_client_ca,
        )

    @property
    def store_options(self) -> StoreOptions:
        """What of this concerns the store."""
        default_mode = CommitMode(self.default_commit_mode or CommitMode.BUFFERED)
        enqueue_mode = CommitMode(self.enqueue_commit_mode or self.default_commit_mode or CommitMode.FSYNC)
        return StoreOptions(
            defaults=Defaults(
                retry_limit=self.default_retry_limit,
                backoff=Backoff(self.default_backoff_exponent, self.default_backoff_base, self.default_backoff_jitter),
                completed_ms=self.default_completed_job_retention,
                dead_ms=self.default_dead_job_retention,
                max_worker_deaths=self.max_worker_deaths,
            ),
            enqueue_mode=enqueue_mode,
            default_mode=default_mode,
            cache_bytes=self.cache_size,
            enqueue_batch=self.enqueue_batch_size,
            complete_batch=self.complete_batch_size,
            max_budgets=self.max_budgets,
        )


def options() -> list[tuple[Field[Any], Option]]:
    """All settings with how they appear, in order."""
    return [(setting, setting.metadata["option"]) for setting in fields(Settings)]


def flag_of(name: str) -> str:
    """The command-line flag of a setting."""
    return "--" + name.replace("_", "-")


def variable_of(name: str) -> str:
    """The environment variable of a setting."""
    return "ZIZQ_" + name.upper()
