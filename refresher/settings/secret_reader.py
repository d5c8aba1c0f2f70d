"""Reading secrets from where the settings say they are.

Whatever fails is a problem in the report; no text of it holds anything of a secret.
"""

import os
import signal
import stat
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from refresher.domain.secret import Secret
from refresher.settings.layers import KeyPath, absolute, decoded, read_text_file
from refresher.settings.report import Report, shown
from refresher.settings.values import (
    FromCommand,
    Given,
    InCredential,
    InFile,
    InVariable,
    SecretSource,
)

COMMAND_TIMEOUT = 10.0
"""Seconds: a password manager that takes longer waits for a person who is not there."""

LONGEST_COMPLAINT = 200
"""Characters of a failed command's first line of complaint that are shown."""


UNREAD = Secret("unread")
"""Stands for a client secret that a command beside a daemon has no use for."""


class SecretReader:
    """Resolves the secrets of one load and remembers how each came.

    Args:
        base: the folder relative paths start at.
        directories: systemd's credentials and the secret directory, in this order.
        environment: what ``{ env = ... }`` and commands see.
        report: takes problems and warnings.
        public_only: leaves the secrets of clients and grants where they are.
    """

    def __init__(
        self,
        *,
        base: Path,
        directories: Sequence[Path],
        environment: Mapping[str, str],
        report: Report,
        public_only: bool = False,
    ) -> None:
        self._public_only = public_only
        self._base = base
        self._directories = directories
        self._environment = environment
        self._report = report
        self.origins: dict[str, str] = {}
        """Key to the kind of its source."""

    def read(
        self, path: KeyPath, source: SecretSource | None, *, is_url: bool = False
    ) -> Secret | None:
        """The secret of the key PATH; None if it has none or a problem was reported.

        Args:
            is_url: it is one only for the sake of a password it may hold.
        """
        if source is None:
            return None
        if self._public_only and path[0] in {"clients", "grants"}:
            return UNREAD if path[-1] == "client_secret" else None
        try:
            secret = self._resolve(path, source)
        except ValueError as error:
            self._report.problem(path, str(error))
            return None
        value = secret.reveal()
        if not value:
            self._report.problem(path, f"is empty ({self.origins[shown(path)]})")
            return None
        if value != value.strip():
            self._report.warning(path, "begins or ends with white space: is that meant?")
        if is_url and isinstance(source, Given) and "@" not in value:
            del self.origins[shown(path)]
        return secret

    def _resolve(self, path: KeyPath, source: SecretSource) -> Secret:
        match source:
            case Given(value=value):
                layer = self._report.layer_of(path)
                self.origins[shown(path)] = layer.origin if layer else "literal"
                return value
            case InFile(path=name):
                self.origins[shown(path)] = "file"
                return self._from_file(path, absolute(self._base, name))
            case InVariable(name=name):
                self.origins[shown(path)] = "environment"
                if name not in self._environment:
                    raise ValueError(f"is in the environment variable {name}, which is not set")
                return Secret(self._environment[name])
            case FromCommand(arguments=arguments):
                self.origins[shown(path)] = "command"
                return Secret(run(arguments, self._environment, self._base))
            case InCredential(name=name):
                self.origins[shown(path)] = "credential"
                return self._from_credential(name)

    def _from_file(self, path: KeyPath, file: Path) -> Secret:
        try:
            secret = Secret(read_text_file(file))
        except ValueError as error:
            raise ValueError(f"is in the file {file}, which {error}") from error
        # What a platform mounts has the mode the platform chose, in a folder of its own.
        mounted = any(file.is_relative_to(directory) for directory in self._directories)
        if not mounted and is_world_readable(file):
            self._report.warning(path, f"is in a file everybody can read: chmod 600 {file}")
        return secret

    def _from_credential(self, name: str) -> Secret:
        for directory in self._directories:
            if os.path.lexists(directory / name):
                try:
                    return Secret(read_text_file(directory / name))
                except ValueError as error:
                    raise ValueError(f"is in {directory / name}, which {error}") from error
        places = ", ".join(str(directory) for directory in self._directories)
        raise ValueError(f"is the credential {name}, which is not in {places}")


def is_world_readable(file: Path) -> bool:
    """Whether every user of this machine may read FILE."""
    try:
        return bool(stat.S_IMODE(file.stat().st_mode) & stat.S_IROTH)
    except (OSError, ValueError):
        return False


def run(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    *,
    timeout: float = COMMAND_TIMEOUT,
) -> str:
    """What the command ARGUMENTS prints, without the newline at its end.

    It gets no shell, no input and no terminal, and at most TIMEOUT seconds.

    Raises:
        ValueError: it cannot be started, takes too long, fails or prints no text.
    """
    try:
        process = subprocess.Popen(  # noqa: S603  the operator's own command, without a shell
            arguments,
            env=dict(environment),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise ValueError(
            f"comes from the command {arguments[0]}, which cannot be started: {error.strerror}"
        ) from error
    except ValueError:
        # Not chained: the error may quote a word of the command.
        raise ValueError("comes from a command with a NUL in it") from None
    with process:
        try:
            output, complaint = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            # The whole group: a child it left behind would keep the pipes open.
            os.killpg(process.pid, signal.SIGKILL)
            # Not chained: the error carries what was printed so far.
            raise ValueError(
                f"comes from the command {arguments[0]}, which took more than {timeout:g} s"
            ) from None
    if process.returncode != 0:
        raise ValueError(
            f"comes from the command {arguments[0]}, which failed with exit code "
            f"{process.returncode}{_first_line(complaint, output)}"
        )
    try:
        return decoded(output)
    except ValueError as error:
        raise ValueError(f"comes from the command {arguments[0]}, whose output {error}") from error


def _first_line(complaint: bytes, output: bytes) -> str:
    """The first line of a failed command's complaint, freed of anything it also printed."""
    text = complaint.decode("utf-8", "replace").strip()
    for printed in output.decode("utf-8", "replace").split():
        text = text.replace(printed, "***")
    line = text.partition("\n")[0][:LONGEST_COMPLAINT]
    return f": {line}" if line else ""
