"""Loading the settings: find, merge, judge, resolve; every problem at once.

Nothing is remembered between two loads, so SIGHUP simply loads again. Loading reads files
and runs commands: a daemon does it in a worker thread.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from refresher.domain.secret import Secret
from refresher.errors import SettingsError
from refresher.files import Fault, Kind, Unseen, is_readable_by_others, read_file
from refresher.settings.clients import LARGEST_BUNDLE, ClientBuilder
from refresher.settings.commands import Complain
from refresher.settings.contradictions import check_together
from refresher.settings.describe import describe
from refresher.settings.document import (
    DEFAULT_REDIS_URL,
    ControlSection,
    Document,
    LogSection,
    RedisSection,
    VaultSection,
)
from refresher.settings.grants import read_seeds
from refresher.settings.kinds import check_kinds, signing_clients
from refresher.settings.layers import (
    UNREAD,
    Layer,
    absolute,
    argument_layer,
    directory_layer,
    environment_layer,
    file_layer,
    merge,
    misspelled_variables,
)
from refresher.settings.model import (
    ControlSettings,
    DaemonSettings,
    HttpSettings,
    LoadedSettings,
    LogSettings,
    RedisSettings,
    Settings,
    VaultSettings,
)
from refresher.settings.notifying import read_targets
from refresher.settings.report import Report, judge
from refresher.settings.secret_places import Needed
from refresher.settings.secret_reader import SecretReader
from refresher.settings.urls import (
    postgresql_doubt,
    postgresql_fault,
    redis_doubts,
    redis_fault,
    tls_files,
)
from refresher.text import plain

CONFIG_VARIABLE = "REFRESHER_CONFIG"
LOCAL_FILE = "refresher.toml"
SYSTEM_FILE = Path("/etc/refresher/refresher.toml")
SYSTEM_FOLDER = Path("/etc")
SYSTEM_VAULT = Path("/var/lib/refresher/vault.db")
LOCAL_VAULT = "refresher.db"
SECRETS_DIRECTORY = "/run/secrets"
"""Where Docker mounts secrets, and where Kubernetes pods commonly do."""

LONGEST_SOCKET_PATH = 107
"""Bytes: ``sun_path`` of unix(7) less its closing NUL."""


def load(
    config: Path | None = None,
    *,
    arguments: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    needed: Needed = Needed.ALL,
    forgives_unseen: bool = False,
    complain: Complain | None = None,
) -> LoadedSettings:
    """Load the settings of this process.

    Args:
        config: the TOML file; None looks at REFRESHER_CONFIG and the usual places.
        arguments: nested tables that win over everything, from the command line.
        environment: None means that of the process.
        needed: which secrets to read: a command that asks a running daemon needs none, and
            may run as somebody who cannot read them.
        forgives_unseen: what this user may not look at is told apart and no problem.
        complain: takes what a failed secret command complained of; see ``commands.run``.

    Raises:
        SettingsError: lists every problem there is.
    """
    variables = os.environ if environment is None else environment
    file, is_named = find_file(config, variables)
    from_file = file_layer(file) if file else Layer(values={}, place="settings")
    if file and not is_named and from_file.faults:
        raise SettingsError([plain(_not_trusted(file, from_file.faults[0]))])
    from_environment = environment_layer(variables)
    base = file.absolute().parent if file else _working_folder()
    directories = _directories(base, variables, from_environment, from_file)
    layers = [
        argument_layer(arguments or {}),
        from_environment,
        *(
            directory_layer(directory, leaves_secrets=needed is Needed.NONE)
            for directory in directories
        ),
        from_file,
    ]
    if file is None and not any(layer.values or layer.problems for layer in layers[1:]):
        raise SettingsError([plain(_nothing_found())])
    if from_file.problems:
        # What the other layers say cannot be judged without the file they add to.
        raise SettingsError([plain(text) for layer in layers for text in layer.problems])
    report = Report(layers, forgives_unseen=forgives_unseen or needed is not Needed.ALL)
    _judge_file(from_file, report)
    document = judge(merge(layers), report)
    secrets = SecretReader(
        base=base,
        directories=directories,
        environment=variables,
        report=report,
        needed=needed,
        complain=complain,
    )
    settings = _build(document, base, file, secrets, report)
    _check_secrets_directory(document, base, report)
    if settings is None or report.problems:
        raise SettingsError(report.problems)
    return LoadedSettings(
        settings=settings,
        file=file,
        warnings=(*report.warnings, *_warnings(file, secrets, variables)),
        not_seen=tuple(report.not_seen),
        of_service=tuple(report.of_service),
        secret_origins=secrets.origins,
    )


def find_file(
    config: Path | None, environment: Mapping[str, str] | None = None
) -> tuple[Path | None, bool]:
    """The settings file, if there is one, and whether somebody named it or the system did.

    One that is merely found in the current folder may be anybody's.
    """
    variables = os.environ if environment is None else environment
    if config is not None:
        return config, True
    if variables.get(CONFIG_VARIABLE):
        return Path(variables[CONFIG_VARIABLE]), True
    local = _working_folder() / LOCAL_FILE
    if os.path.lexists(local):
        return local, False
    return (SYSTEM_FILE, True) if os.path.lexists(SYSTEM_FILE) else (None, False)


def _not_trusted(file: Path, fault: Fault) -> str:
    return (
        f"{file}: was found in the current folder and is not used, since others can change it "
        f"and it may name commands: {fault.text}; or say that it is meant: --config {file}"
    )


def _judge_file(layer: Layer, report: Report) -> None:
    """A file that was named may be another user's, who is trusted by that; no other's."""
    for fault in layer.faults:
        line = plain(f"{layer.place}: others can change it: {fault.text}")
        (report.warnings if fault.kind is Kind.OWNER else report.problems).append(line)


def _working_folder() -> Path:
    try:
        return Path.cwd()
    except OSError:  # it was removed
        return Path("/")


def _nothing_found() -> str:
    local = _working_folder() / LOCAL_FILE
    return (
        f"settings: none found; tried --config, {CONFIG_VARIABLE}, {local}, {SYSTEM_FILE} "
        "and variables such as REFRESHER_REDIS__URL; `refresher init` writes a first file"
    )


def _directories(base: Path, environment: Mapping[str, str], *layers: Layer) -> list[Path]:
    """The folders of systemd's credentials and of other secrets, the winning one first."""
    given = [layer.values["secrets_dir"] for layer in layers if "secrets_dir" in layer.values]
    secrets_dir = given[0] if given and isinstance(given[0], str) else SECRETS_DIRECTORY
    credentials = environment.get("CREDENTIALS_DIRECTORY")
    return [*([Path(credentials)] if credentials else []), absolute(base, secrets_dir)]


def _build(
    document: Document, base: Path, file: Path | None, secrets: SecretReader, report: Report
) -> Settings | None:
    """Everything the document means; None, and a report, if a client cannot be made."""
    vault = _vault(document.vault, base, file, secrets, report)
    redis = _redis(document.redis, secrets, report)
    control = _control(document.control, base, vault, report)
    signing = signing_clients(document)
    builder = ClientBuilder(base=base, secrets=secrets, report=report, signing=signing)
    clients = {name: builder.build(name, each) for name, each in document.clients.items()}
    seeds = read_seeds(document.grants, document.clients, secrets, report)
    made = {name: client for name, client in clients.items() if client is not None}
    targets = read_targets(document.notify, base, secrets, report)
    check_together(document, made, report)
    check_kinds(document, made, report)
    if len(made) < len(clients):
        return None
    return Settings(
        vault=vault,
        redis=redis,
        control=control,
        http=HttpSettings(listen=document.http.listen),
        log=_log(document.log),
        daemon=DaemonSettings(**document.daemon.model_dump()),
        clients=made,
        seeds=seeds,
        targets=targets,
        rereadable=tuple(secrets.rereadable),
        secrets=secrets.needed,
    )


def _vault(
    section: VaultSection, base: Path, file: Path | None, secrets: SecretReader, report: Report
) -> VaultSettings:
    is_system = file is None or file.absolute().is_relative_to(SYSTEM_FOLDER)
    default = SYSTEM_VAULT if is_system else base / LOCAL_VAULT
    path = absolute(base, section.path) if section.path else default
    key_file = absolute(base, section.key_file) if section.key_file else path.with_suffix(".key")
    url = secrets.read(("vault", "url"), section.url, is_url=True)
    if url is not None:
        fault = postgresql_fault(url.reveal())
        if fault is not None:
            report.problem(("vault", "url"), fault)
        elif (doubt := postgresql_doubt(url.reveal())) is not None:
            report.warning(("vault", "url"), doubt)
    elif section.url is not None:
        url = Secret(UNREAD)  # the vault is no file all the same
    return VaultSettings(path=path, key_file=key_file, keep=section.keep, url=url)


def _redis(section: RedisSection, secrets: SecretReader, report: Report) -> RedisSettings:
    url = secrets.read(("redis", "url"), section.url, is_url=True)
    fault = redis_fault(url.reveal()) if url else None
    if fault is not None:
        report.problem(("redis", "url"), fault)
    elif url and section.password and urlsplit(url.reveal()).password:
        report.problem(("redis", "password"), "stands in redis.url too: keep one of the two")
    elif url and section.username:
        inside = urlsplit(url.reveal()).username
        if inside and unquote(inside) != section.username:
            report.problem(("redis", "username"), "is another in redis.url: keep one of the two")
    password = secrets.read(("redis", "password"), section.password)
    if url and fault is None:
        for doubt in redis_doubts(url.reveal(), has_password=password is not None):
            report.warning(("redis", "url"), doubt)
        _check_tls_files(url.reveal(), report)
    return RedisSettings(
        url=url or Secret(DEFAULT_REDIS_URL),
        username=section.username,
        password=password,
        prefix=section.prefix,
    )


def _check_tls_files(url: str, report: Report) -> None:
    """Report certificates and keys of URL that others can change.

    One that cannot be read is a warning: tokens are kept fresh while Redis is away, and the
    file is looked at again at each connection.
    """
    for option, file in tls_files(url):
        key = ("redis", "url")
        try:
            _, faults = read_file(file, largest=LARGEST_BUNDLE)
        except Unseen as error:
            report.unseen(key, f"has {option} {file}, which {error}", of_service=False)
        except ValueError as error:
            report.warning(key, f"has {option} {file}, which {error}")
        else:
            if faults:
                report.problem(key, f"has an {option} that others can change: {faults[0].text}")
            elif option == "ssl_keyfile" and is_readable_by_others(file):
                report.warning(key, f"has an {option} that others can read: chmod 600 {file}")


def _control(
    section: ControlSection, base: Path, vault: VaultSettings, report: Report
) -> ControlSettings:
    default = vault.path.with_name("refresher.sock")
    socket = absolute(base, section.socket) if section.socket else default
    if len(bytes(socket)) > LONGEST_SOCKET_PATH:
        report.problem(
            ("control", "socket"),
            f"is {socket}, longer than the {LONGEST_SOCKET_PATH} bytes a Unix socket's path may "
            "have (unix(7)): set a shorter one, for example /run/refresher/refresher.sock",
        )
    return ControlSettings(socket=socket)


def _log(section: LogSection) -> LogSettings:
    json_lines = None if section.format == "auto" else section.format == "json"
    return LogSettings(level=section.level, json_lines=json_lines)


def _check_secrets_directory(document: Document, base: Path, report: Report) -> None:
    if document.secrets_dir is None:
        return
    directory = absolute(base, document.secrets_dir)
    if not os.path.isdir(directory):  # noqa: PTH112  false where Path.is_dir() raises
        report.problem(("secrets_dir",), f"is {directory}, which is not a directory")


def _warnings(
    file: Path | None, secrets: SecretReader, environment: Mapping[str, str]
) -> list[str]:
    known = [line.variable for line in describe()]
    found = [
        f"environment {name}: is not a setting; did you mean {right}?"
        for name, right in misspelled_variables(environment, known)
    ]
    if file and "literal" in secrets.origins.values() and is_readable_by_others(file):
        found.append(plain(f"{file}: holds secrets and others can read it: chmod 600 {file}"))
    return found
