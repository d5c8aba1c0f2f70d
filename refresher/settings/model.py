"""What loading the settings gives: narrow values, no secret of which shows itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from refresher.domain.clients import Client
from refresher.domain.notifications import Target
from refresher.domain.secret import Secret
from refresher.domain.seeds import Seed
from refresher.logs import Level
from refresher.settings.secret_places import Needed, Rereadable


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultSettings:
    """Where the durable store is."""

    path: Path
    """The SQLite file; with a URL only the name of the files that one daemon has for itself."""
    key_file: Path
    keep: float
    """Seconds that answers which found no grant, and the log of changes, are kept."""
    url: Secret | None = None
    """Of the PostgreSQL database that it lies in. May hold a password, so it is shown only as
    ``location``."""

    @property
    def location(self) -> str:
        """Where it is, for people and logs."""
        return str(self.path) if self.url is None else _bare(self.url)


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisSettings:
    """Where access tokens are published."""

    url: Secret
    """May hold a password, so it is shown only as ``location``."""
    username: str | None = None
    password: Secret | None = None
    prefix: str = "refresher:"

    @property
    def location(self) -> str:
        """The URL without user, password and query, for people and logs."""
        return _bare(self.url)


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlSettings:
    """How commands reach the daemon."""

    socket: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """Where probes and metrics are served over TCP."""

    listen: str | None = None
    """``HOST:PORT``; None: nowhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """What is logged."""

    level: Level = Level.INFO
    json_lines: bool | None = None
    """None: whether standard output is a terminal decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonSettings:
    """How the daemon works; durations in seconds."""

    workers: int
    shutdown_deadline: float
    standby: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything the composition root hands out, each room its own part."""

    vault: VaultSettings
    redis: RedisSettings
    control: ControlSettings
    http: HttpSettings
    log: LogSettings
    daemon: DaemonSettings
    clients: dict[str, Client]
    seeds: list[Seed]
    targets: tuple[Target, ...] = ()
    """Whom to tell what happens."""
    rereadable: tuple[Rereadable, ...] = ()
    """The secrets of clients and Redis that may change while the daemon runs."""
    secrets: Needed = Needed.ALL
    """Which secrets were read; the others are missing, or stand for themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedSettings:
    """Settings in which no problem was found, and what a person may want to know of them."""

    settings: Settings
    file: Path | None
    """The TOML file, or None when everything came from elsewhere."""
    warnings: tuple[str, ...] = ()
    not_seen: tuple[str, ...] = ()
    """What this user may not look at; the daemon's may."""
    of_service: tuple[str, ...] = ()
    """What the service alone can look at: no user may."""
    secret_origins: Mapping[str, str] = field(default_factory=dict)
    """Key of each secret to the kind of its source, such as ``file`` or ``command``."""

    def summary(self) -> list[str]:
        """What was found, a line each; no secret."""
        settings = self.settings
        return [
            f"settings: {self.file or 'no file, only variables and secret directories'}",
            f"vault: {settings.vault.location} (key file {settings.vault.key_file})",
            f"redis: {settings.redis.location}",
            f"control socket: {settings.control.socket}",
            f"clients: {_counted(settings.clients)}",
            f"grants: {_counted([seed.name for seed in settings.seeds])}",
            *(
                f"{each.setting}: a {'command' if each.command else 'webhook'}"
                for each in settings.targets
            ),
            *(f"secret {key}: {origin}" for key, origin in sorted(self.secret_origins.items())),
        ]


def _bare(url: Secret) -> str:
    parts = urlsplit(url.reveal())
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _counted(names: "dict[str, Client] | list[str]") -> str:
    return f"{len(names)} ({', '.join(sorted(names))})" if names else "none"
