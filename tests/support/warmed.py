"""A vault was opened before this: what libraries do at their first use is done for all forks."""

import tempfile
from pathlib import Path

import anyio

from refresher.vault.opening import open_vault
from refresher.vault.sealing import write_key_file
from tests.support import compiled


async def open_a_vault(folder: Path) -> None:
    """Make a vault in FOLDER, and close it."""
    write_key_file(folder / "key")
    vault = await open_vault(folder / "vault.db", folder / "key")
    vault.close()


compiled.share()
with tempfile.TemporaryDirectory() as made:
    anyio.run(open_a_vault, Path(made))
