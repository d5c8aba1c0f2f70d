"""Replicas whose vault key is changed, while everything happens that happens to them.

Each place has a key file of its own. A new key comes to one of them, and to the others some time
later, so that two rotations at once leave files that name different keys first.
"""

from pathlib import Path

from refresher.vault import keys, sealed_cells
from refresher.vault.rows import Sealer
from refresher.vault.sealing import KEY_BYTES, Keyring
from tests.simulation.process import Process
from tests.simulation.shared import SharedWorld

ROTATED_EVERY, HANDED_OUT_WITHIN = 10.0, 8.0
"""Seconds between two new keys, and until a place has one, on average."""


class RotatingWorld(SharedWorld):
    """One seed's world of replicas that change their vault's key."""

    rotates = True

    def __init__(self, seed: int, folder: Path, count: int) -> None:
        self._keys: dict[bytes, bytes] = {}
        self._files: dict[Path, list[bytes]] = {}
        self._used: list[bytes] = []
        super().__init__(seed, folder, count)

    def _begin(self) -> None:
        key = self._make_key()
        self._files = {place: [key] for place in self.places}
        self._used = self._used_keys()
        super()._begin()
        self._plan(ROTATED_EVERY, self._rotate)

    def _make_key(self) -> bytes:
        """One more key; the world itself opens whatever any of them seals."""
        key = b"k" * KEY_BYTES if not self._keys else f"{len(self._keys):0{KEY_BYTES}}".encode()
        [number] = Keyring([key]).ids
        self._keys[number] = key
        self.sealer.keyring = Keyring([*self._keys.values()])
        return key

    def sealer_of(self, process: Process) -> Sealer:
        file = process.rescue_file.with_suffix(".key")
        keyring = Keyring(self._files[process.rescue_file], file)
        keyring.follow(self._used)
        return Sealer(keyring, self.sealer.fingerprint)

    def _start_process(self, rescue_file: Path) -> None:
        [*known] = Keyring(self._files[rescue_file]).ids
        if self._used[0] not in known:
            # It is refused, and says which key it lacks: somebody brings that one.
            self.chance.seen["refused without its key"] += 1
            self._files[rescue_file].append(self._keys[self._used[0]])
        super()._start_process(rescue_file)

    def _rotate(self) -> None:
        key = self._make_key()
        self.chance.seen["new keys"] += 1
        self._bring(self.chance.choice(self.places), key)
        for place in self.places:
            delay = self.chance.around(HANDED_OUT_WITHIN) * self.pace
            self.at(delay, lambda place=place: self._bring(place, key))  # type: ignore[misc]  # a lambda with a default

    def _bring(self, place: Path, key: bytes) -> None:
        if key not in self._files[place]:
            self._files[place].insert(0, key)

    async def read_keys(self, process: Process) -> bool:
        """What a daemon does that finds its key file changed."""
        keyring = process.vault._sealer.keyring
        found = Keyring(self._files[process.rescue_file])
        if found.ids == keyring.ids:
            return False
        await process.vault._read(lambda tx: keys.take_over(tx.connection, keyring, found))
        process.vault.resealing.request()
        return True

    def committed(self) -> None:
        """Whoever is known to share the vault opens what is sealed from now on."""
        used = self._used_keys()
        if used == self._used:
            return
        if len(used) > len(self._keys):
            self.witness.violated("K: the vault is turned over and over")
        self.chance.seen["keys changed"] += len(used) > len(self._used)
        self._used = used
        found = self.disk.connection.execute("SELECT holder FROM replicas").fetchall()
        holders = {holder for (holder,) in found}
        for process in self.processes:
            lacks = used[0] not in process.vault._sealer.keyring.ids
            if process.is_alive and process.vault.holder in holders and lacks:
                place = process.rescue_file.stem
                self.witness.violated(f"K: {place} cannot open what is sealed from now on")

    def outdated(self) -> list[str]:
        """What is not under the key that seals."""
        return [
            f"{cell.column} is not under the newest key"
            for cell in sealed_cells.SEALED
            for (mark,) in self.disk.connection.execute(
                f"SELECT substr({cell.column.name}, 2, 8) FROM {cell.column.table.name} "  # noqa: S608  our own names
                f"WHERE {cell.column.name} IS NOT NULL"
            )
            if mark != self._used[0]
        ]

    def _used_keys(self) -> list[bytes]:
        found = self.disk.connection.execute(
            "SELECT value FROM facts WHERE name = ?", (keys.SEALING_KEYS,)
        ).fetchone()
        if found is None:
            return list(Keyring([b"k" * KEY_BYTES]).ids)
        return [found[0][at : at + 8] for at in range(0, len(found[0]), 8)]
