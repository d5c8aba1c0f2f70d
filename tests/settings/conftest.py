"""A settings file in a private folder, and a load that sees no environment but its own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from refresher.errors import SettingsError
from refresher.settings import LoadedSettings, load

CLIENT = """
[clients.acme]
token_endpoint = "https://auth.acme.example/token"
client_id = "refresher"
client_secret = "acme-secret"
"""


class Bench:
    """Writes a settings file and loads it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "refresher.toml"

    def write(self, name: str, text: str, mode: int = 0o600) -> Path:
        """A file beside the settings file."""
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    def load(
        self,
        text: str,
        environment: Mapping[str, str] | None = None,
        arguments: Mapping[str, Any] | None = None,
    ) -> LoadedSettings:
        """Load TEXT as the settings file."""
        self.write(self.file.name, text)
        return load(self.file, environment=environment or {}, arguments=arguments)

    def problems(self, text: str, environment: Mapping[str, str] | None = None) -> list[str]:
        """What is wrong with TEXT, without the file's name before each line."""
        with pytest.raises(SettingsError) as caught:
            self.load(text, environment)
        return [line.removeprefix(f"{self.file}: ") for line in caught.value.problems]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)
