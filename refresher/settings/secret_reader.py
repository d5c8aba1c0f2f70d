"""Reading secrets from where the settings say they are.

Whatever fails is a problem in the report; no text of it holds anything of a secret.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from refresher.domain.secret import Secret
from refresher.files import Unseen, is_readable_by_others
from refresher.settings.commands import Complain, run
from refresher.settings.layers import SECRET_DIRECTORY, UNREAD, KeyPath, absolute
from refresher.settings.report import Report, shown
from refresher.settings.secret_places import InFiles, Needed, OfService, Printed, Rereadable
from refresher.settings.values import (
    FromCommand,
    Given,
    InCredential,
    InFile,
    InVariable,
    SecretSource,
)

STAND_IN = frozenset({"client_secret", "second_client_secret", "client_private_key"})
"""Keys that something stands for where they are not read: what a client needs is not missing."""


OPENED_WITH: Mapping[Needed, frozenset[str]] = {
    Needed.NONE: frozenset(),
    Needed.VAULT: frozenset({"vault"}),
    Needed.REDIS: frozenset({"vault", "redis"}),
}
"""Sections whose secrets are read where not all are."""


class SecretReader:
    """Resolves the secrets of one load and remembers how each came.

    Args:
        base: the folder relative paths start at.
        directories: systemd's credentials and the secret directory, in this order.
        environment: what ``{ env = ... }`` and commands see.
        report: takes problems and warnings.
        needed: leaves every other secret where it is.
        complain: takes what a failed command complained of; see ``commands.run``.
    """

    def __init__(
        self,
        *,
        base: Path,
        directories: Sequence[Path],
        environment: Mapping[str, str],
        report: Report,
        needed: Needed = Needed.ALL,
        complain: Complain | None = None,
    ) -> None:
        self.needed = needed
        self._complain = complain
        self._base = base
        self._directories = directories
        self.environment = environment
        self._report = report
        self.origins: dict[str, str] = {}
        """Key to the kind of its source."""
        self.rereadable: list[Rereadable] = []
        """What clients and Redis need and a running daemon can read again."""

    def read(
        self, path: KeyPath, source: SecretSource | None, *, is_url: bool = False
    ) -> Secret | None:
        """The secret of the key PATH; None if it has none or a problem was reported.

        Args:
            is_url: it is one only for the sake of a password it may hold.
        """
        if source is None:
            return None
        if not self.reads(path):
            return Secret(UNREAD) if path[-1] in STAND_IN else None
        try:
            secret = self._resolve(path, source)
        except Unseen as error:
            self._report.unseen(path, str(error), of_service=isinstance(error, OfService))
            return Secret(UNREAD) if path[-1] in STAND_IN else None
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

    def reads(self, path: KeyPath) -> bool:
        """Whether the secret of the key PATH is needed."""
        return self.needed is Needed.ALL or path[0] in OPENED_WITH[self.needed]

    def _resolve(self, path: KeyPath, source: SecretSource) -> Secret:
        match source:
            case Given(value=value):
                layer = self._report.layer_of(path)
                self.origins[shown(path)] = layer.origin if layer else "literal"
                if layer and layer.origin == SECRET_DIRECTORY:
                    self._may_change(path, InFiles((Path(layer.place_of(path)),)))
                return value
            case InFile(path=name):
                self.origins[shown(path)] = "file"
                return self._from_file(path, absolute(self._base, name))
            case InVariable(name=name):
                self.origins[shown(path)] = "environment"
                if name not in self.environment:
                    raise ValueError(f"is in the environment variable {name}, which is not set")
                return Secret(self.environment[name])
            case FromCommand(arguments=arguments):
                self.origins[shown(path)] = "command"
                self._may_change(path, Printed(arguments, self.environment, self._base))
                return Secret(run(arguments, self.environment, self._base, complain=self._complain))
            case InCredential(name=name):
                self.origins[shown(path)] = "credential"
                return self._from_credential(path, name)

    def _from_file(self, path: KeyPath, file: Path) -> Secret:
        place = InFiles((file,))
        self._may_change(path, place)
        secret = Secret(place.read())
        # What a platform mounts has the mode the platform chose, in a folder of its own.
        mounted = any(file.is_relative_to(directory) for directory in self._directories)
        if not mounted and is_readable_by_others(file):
            self._report.warning(path, f"is in a file others can read: chmod 600 {file}")
        return secret

    def _from_credential(self, path: KeyPath, name: str) -> Secret:
        place = InFiles(tuple(directory / name for directory in self._directories))
        if not os.path.lexists(place.find()):
            places = ", ".join(str(directory) for directory in self._directories)
            told = f"is the credential {name}, which is not in {places}"
            is_elsewhere = "CREDENTIALS_DIRECTORY" not in self.environment
            if is_elsewhere and not any(map(os.path.lexists, self._directories)):
                raise OfService(told)
            raise ValueError(told)
        self._may_change(path, place)
        return Secret(place.read())

    def _may_change(self, path: KeyPath, place: InFiles | Printed) -> None:
        """Note what a daemon reads again; the tokens of grants are taken once, as seeds.

        What signs notifications counts until SIGHUP: nobody is refused with it in an exchange.
        The vault is opened once.
        """
        if path[0] not in {"grants", "notify", "vault"}:
            self.rereadable.append(Rereadable(path, place))
