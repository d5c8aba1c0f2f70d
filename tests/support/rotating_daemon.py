"""The daemon, composed with a probe that kills it at one place of bringing everything under a key.

Production code has no switch for this: the probe wraps the parts the daemon is composed of.
"""

import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio

from refresher import logs
from refresher.app.parts import Parts
from refresher.app.standby import run_daemon
from refresher.settings.loading import load
from refresher.vault import keys, sealed_cells
from refresher.vault.key_file import bring_in_key
from refresher.vault.opening import open_vault
from refresher.vault.vault import Vault

KEY_PLACES = ("before the key", "after the key")
"""Around the one moment at which the new line stands in the key file."""

BATCH = 4
"""Cells of a batch: a dozen grants have several."""


class Probe:
    """Kills this very process at PLACE: one of ``KEY_PLACES``, or "before 3", "after 3"."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._batches = 0

    def reach(self, place: str) -> None:
        """Die here, if this is the place."""
        if place == self._place:
            os.kill(os.getpid(), signal.SIGKILL)

    async def open_vault(self, path: Path, key_file: Path, **options: Any) -> Vault:
        """The vault with every batch of resealing probed, and small ones."""
        vault = await open_vault(path, key_file, **options)
        write: Callable[..., Awaitable[Any]] = vault.resealing._write

        async def probed(*arguments: Any) -> Any:
            self._batches += 1
            number = self._batches
            self.reach(f"before {number}")
            written = await write(*arguments)
            self.reach(f"after {number}")
            return written

        vault.resealing._write = probed  # type: ignore[assignment]  # the probe is a wrapper
        return vault

    def bring_in_key(self, path: Path, line: str) -> None:
        """Write the new line, probed before and after."""
        self.reach("before the key")
        bring_in_key(path, line)
        self.reach("after the key")


def run_rotating(config: Path, place: str, log: Path) -> None:
    """Be a daemon that dies at PLACE, its output in LOG; the whole of a forked process."""
    with log.open("ab") as output, Path(os.devnull).open("rb") as nothing:
        for number, file in enumerate((nothing, output, output)):
            os.dup2(file.fileno(), number)
    logs.configure(level="debug", json_lines=True)
    probe = Probe(place)
    keys.bring_in_key = probe.bring_in_key  # type: ignore[attr-defined]  # a probe, no re-export
    sealed_cells.BATCH = BATCH

    async def run() -> None:
        parts = Parts(open_vault=probe.open_vault)
        await run_daemon(load(config).settings, lambda: load(config).settings, parts=parts)

    anyio.run(run)
