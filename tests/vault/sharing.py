"""Several replicas on one vault in one process: an SQLite file without its lock."""

import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from refresher.vault.clock_steps import Following
from refresher.vault.keys import open_fingerprint_key
from refresher.vault.rescue import RescueFile
from refresher.vault.rows import Sealer
from refresher.vault.sealing import Fingerprinter, Keyring
from refresher.vault.sqlite.engine import open_sqlite
from refresher.vault.sqlite.file_lock import FileLock
from refresher.vault.sqlite.files import Files
from refresher.vault.vault import Vault
from tests.support.backends import KnownBackends, Server
from tests.support.threads import Inline
from tests.vault.world import FakeClock, opened


@dataclass
class Shared:
    """One vault, whoever has opened it, and the clock that all of them read."""

    folder: Path
    stack: AsyncExitStack
    clock: FakeClock = field(default_factory=FakeClock)
    server: Server = field(default_factory=Server)

    async def replica(self, name: str, *, own_key_file: bool = False) -> Vault:
        """One more replica, which has said that it lives."""
        database = open_sqlite(self.folder / "vault.db")
        key_file = self.folder / "key"
        if own_key_file:
            key_file = Path(shutil.copy2(key_file, self.folder / f"{name}.key"))
        keyring = Keyring.load(key_file)
        key = await database.write(lambda c: open_fingerprint_key(c, keyring))
        file = self.folder / f"{name}.rescue"
        vault = Vault(
            database,
            Sealer(keyring, Fingerprinter(key)),
            FileLock(file),
            RescueFile(file, slots=2, writer=Inline(), syncer=Inline()),
            Files(file, Inline()),
            following=Following(0.0),
            clock=self.clock,
            name=name,
            backends=KnownBackends(
                self.server,
                self.server.connect(self.clock.now()),
                self.server.connect(self.clock.now()),
            ),
        )
        self.stack.callback(vault.close)
        vault.rescued.open()
        await vault.leases.beat()
        return vault

    def die(self, vault: Vault) -> None:
        """Let the connections of VAULT end, as with its process."""
        known = backends_of(vault)
        self.server.connected -= {known.backend, known.reading}

    def reconnect(self, vault: Vault) -> None:
        """Let VAULT have other connections."""
        self.die(vault)
        known, now = backends_of(vault), self.clock.now()
        known.backend, known.reading = self.server.connect(now), self.server.connect(now)


def backends_of(vault: Vault) -> KnownBackends:
    """What VAULT asks its connection."""
    backends = vault.leases._backends
    assert isinstance(backends, KnownBackends)
    return backends


@asynccontextmanager
async def shared(folder: Path) -> AsyncIterator[Shared]:
    """A vault in FOLDER that replicas can share."""
    async with AsyncExitStack() as stack:
        async with opened(folder):
            pass  # makes it
        yield Shared(folder, stack)
