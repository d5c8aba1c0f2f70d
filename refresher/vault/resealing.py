"""Everything sealed, brought under the key that seals and into the newest format, and counted.

The daemon does it at its start and whenever that key or the key file has changed, beside all
its other work: a batch is opened and sealed anew in the thread that reads, then stored by
compare-and-swap. A cell that an exchange, a login or another process has written meanwhile
stays as that one wrote it: to put back what was read before would bring a spent refresh token
back. Wherever a process dies, each cell opens with one of the keys in the file, and the next
process goes on.

A vault of the first format may hold cells of it until none is left. Then its fingerprint key
is sealed in the newest format, last of all, and from that commit on whatever is of the first
format was put there by somebody.

A new key seals at once where one daemon has the vault. Where several share it, it seals once
each has announced that it can open it (``domain.keys``), and each goes over everything: what one
of them has sealed with the old key before it heard of the new one comes under that too.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import anyio

from refresher.domain.keys import Reader, next_to_seal, unread_by
from refresher.errors import VaultKeyError, VaultUnavailable
from refresher.logs import Event, emit
from refresher.vault import heartbeats, keys, sealed_cells
from refresher.vault.outage import Outage
from refresher.vault.rescued import Rescued
from refresher.vault.rows import Run, Sealer, Transaction
from refresher.vault.sealed_counts import SealedUnder, by_key, count
from refresher.vault.sealing import FIRST_FORMAT, FORMAT, MARK_BYTES, Keyring, new_key_line
from refresher.vault.threads import out_of_the_loop

RESTS_FOR = 1.0
"""How many times as long as a turn took the pass rests: it is in no hurry."""

RETRIED_AFTER = 5.0
"""Seconds after which a vault that refused is tried again."""


@dataclass(slots=True)
class _Pass:
    """What one pass over everything has found."""

    done: int = 0
    missed: int = 0
    """Cells that somebody else wrote meanwhile."""
    unopened: int = 0
    spoilt: int = 0
    """Of the unopened, those of the first format that no key will ever open: altered ones."""


class Resealing:
    """The keys of an open vault, and the work of bringing everything under the one that seals.

    Args:
        holder: names this opening of the vault.
    """

    def __init__(
        self,
        write: Run,
        read: Run,
        sealer: Sealer,
        rescued: Rescued,
        *,
        holder: str,
        outage: Outage,
    ) -> None:
        self._write, self._read = write, read
        self._sealer, self._rescued = sealer, rescued
        self._holder, self._outage = holder, outage
        self._one_at_a_time = anyio.Lock()
        self._wanted = anyio.Event()
        self._told_unopened = 0
        self._is_asked = False
        self._went_over_with = self._told_key = sealer.keyring.sealing
        self._told_missing: bytes | None = None
        self._told_waiting: set[tuple[bytes, str]] = set()

    @property
    def is_due(self) -> bool:
        """Whether something was asked for that is not done yet."""
        return self._is_asked or self._one_at_a_time.statistics().locked

    @property
    def lacking(self) -> str | None:
        """Why nothing may be sealed or sent, where the key file lacks the key that seals."""
        keyring = self._sealer.keyring
        return None if keyring.missing is None else keys.lacking(keyring)

    async def run(self) -> None:
        """Reseal now, and whenever the keys have changed, for ever."""
        while True:
            self._wanted = anyio.Event()
            try:
                await self.reseal()
            except VaultUnavailable:  # told as an outage
                await anyio.sleep(RETRIED_AFTER)
            else:
                await self._wanted.wait()

    async def rotate(self) -> str:
        """Bring a new key into the key file; its id. It seals as soon as every replica has it.

        Raises:
            VaultKeyError: the key file cannot be written, or read.
            VaultUnavailable: the key may be in the file, and seals later.
        """
        keyring, line = self._sealer.keyring, new_key_line()
        key_id = await self._write(lambda tx: keys.bring_in(tx.connection, keyring, line))
        emit(Event.VAULT_KEY_ADDED, key_id=key_id)
        await self._change_key()
        self.request()
        return key_id

    async def read_again(self) -> bool:
        """Let the key file count as it is now; whether other keys are in it.

        Raises:
            VaultKeyError: it cannot be used; the keys stay what they were.
            VaultUnavailable: the vault cannot tell whether it can be used.
        """
        keyring = self._sealer.keyring
        before = keyring.ids
        found = await out_of_the_loop(partial(Keyring.load, keyring.path))
        await self._read(lambda tx: keys.take_over(tx.connection, keyring, found))
        if keyring.ids != before:
            self.request()
        return keyring.ids != before

    async def heard(self, replicas: Sequence[Reader], now: float) -> None:
        """Go on where a heartbeat has brought news of the keys, of the vault's or the REPLICAS'.

        Raises:
            VaultUnavailable: the next one brings them again.
        """
        keyring = self._sealer.keyring
        if keyring.missing is not None:
            # The file may have it: nobody was there to read it while this process slept.
            with suppress(VaultKeyError):
                await self.read_again()
        self._tell_missing()
        if self.is_due:
            return
        if (key := keyring.wanted) is not None:
            self._tell_waiting(key, self._others(unread_by(replicas, FORMAT + key, now)))
        is_ready = key is not None and not self._told_waiting
        if is_ready or keyring.sealing != self._went_over_with:
            self.request()

    async def reseal(self) -> None:
        """Let the key seal that is to, and bring everything under it that another opens.

        Raises:
            VaultUnavailable: what is left can be done later.
        """
        async with self._one_at_a_time:
            self._is_asked = False
            try:
                await self._change_key()
                if self._sealer.keyring.missing is not None:
                    return  # nothing is to come under the key that sealed before
                sealing = self._sealer.keyring.sealing
                count, last = await self._pass_until_done()
                rescued = await self._rescued.marks()
            except VaultUnavailable:
                self._is_asked = True
                raise
        self._went_over_with = sealing
        self._sealer.keyring.needed = frozenset(mark[1:] for mark in rescued) | {sealing}
        if count:
            emit(Event.VAULT_RESEALED, count=count, key_id=sealing.hex())
        unopened = last.unopened + len(self._rescued.unopened)
        if unopened > self._told_unopened:
            emit(Event.VAULT_UNOPENED, count=unopened)
        self._told_unopened = unopened

    async def status(self) -> list[SealedUnder]:
        """What is sealed under each key: those of the file in its order, then unknown ones.

        What is found under another key than the one that seals is brought under that one.

        Raises:
            VaultKeyError: the key file cannot be used as it is now.
        """
        await self.read_again()
        rescued = await self._rescued.marks()

        def look(tx: Transaction) -> list[SealedUnder]:
            found = count(tx)
            for mark in rescued:
                found["rescued answers", mark] = found.get(("rescued answers", mark), 0) + 1
            others = self._others(heartbeats.known(tx.connection))
            return by_key(found, tx.sealer.keyring, others, tx.now)

        keys_found = await self._read(look)
        if any(key.total and key.line is not None and not key.seals for key in keys_found):
            self.request()
        return keys_found

    async def _change_key(self) -> None:
        """Let the first key of the file seal, if it is to and every replica can open it."""
        keyring = self._sealer.keyring
        if (key := keyring.wanted) is not None:
            used, waited_for = await self._write(partial(change_key, holder=self._holder))
            keyring.follow(used)
            self._tell_waiting(key, waited_for)
        if keyring.sealing != self._told_key:
            self._told_key = keyring.sealing
            emit(Event.VAULT_KEY_CHANGED, key_id=keyring.sealing.hex())

    def _others(self, replicas: Sequence[Reader]) -> list[Reader]:
        return [one for one in replicas if one.holder != self._holder]

    def _tell_waiting(self, key: bytes, waited_for: Sequence[Reader]) -> None:
        """Say once of each replica that KEY waits for it."""
        waiting = {(key, one.holder): one for one in waited_for}
        for which in waiting.keys() - self._told_waiting:
            one = waiting[which]
            emit(
                Event.VAULT_KEY_WAITING,
                key_id=key.hex(),
                replica=one.name,
                instance=one.holder,
                repair=f"put the line of this key into the key file of {one.name} too"
                if one.opens
                else f"replace {one.name}: its version does not say which keys it has",
            )
        self._told_waiting = set(waiting)

    def _tell_missing(self) -> None:
        keyring = self._sealer.keyring
        missing = keyring.missing
        if missing == self._told_missing:
            return
        self._told_missing = missing
        if missing is None:
            self._outage.over(self)
            self.request()
            return
        self._outage.met(self, None)  # it is told here, and in other words
        emit(Event.VAULT_KEY_MISSING, key_id=missing.hex(), repair=keys.lacking(keyring))

    def request(self) -> None:
        """Have ``run`` look again for what is to be sealed anew."""
        self._is_asked = True
        self._wanted.set()

    async def _pass_until_done(self) -> tuple[int, _Pass]:
        """Go over everything until nothing is left to do; how much was done, and the last pass."""
        count = 0
        while True:
            last = await self._pass()
            count += last.done
            if not last.done and not last.missed:
                return count + await self._store_fact(last.spoilt), last

    async def _pass(self) -> _Pass:
        """Go once over all that is sealed."""
        passed = _Pass()
        for cell in sealed_cells.SEALED:
            after, last = 0, await self._read(partial(sealed_cells.last, cell=cell))
            while after < last:
                began = anyio.current_time()
                batch = await self._read(partial(sealed_cells.outdated, cell=cell, after=after))
                is_full = len(batch) == sealed_cells.BATCH
                after = batch[-1].number if is_full else after + sealed_cells.SCANNED
                new = [one for one in batch if one.new is not None]
                done = 0
                if new:
                    done = await self._write(partial(sealed_cells.store, cell=cell, batch=new))
                passed.done += done
                passed.missed += len(new) - done
                self._count_unopened(passed, batch)
                if is_full and new and not done:
                    await anyio.sleep(RETRIED_AFTER)  # another replica is at it
                # The thread that reads has claims and publications to serve meanwhile.
                await anyio.sleep(RESTS_FOR * (anyio.current_time() - began))
        passed.done += await self._rescued.reseal(self._sealer.keyring.mark)
        return passed

    def _count_unopened(self, passed: _Pass, batch: list[sealed_cells.Renewed]) -> None:
        for one in batch:
            if one.new is None:
                passed.unopened += 1
                is_known = one.old[1:MARK_BYTES] in self._sealer.keyring.ids
                passed.spoilt += is_known and one.old[:1] == FIRST_FORMAT

    async def _store_fact(self, spoilt: int) -> int:
        """Bring the fingerprint key under the key that seals, and after all else to its format."""
        keyring = self._sealer.keyring
        is_last = True
        if keyring.accepts_first:
            # A key that is put back must still open what is left.
            rescued = (mark[:1] == FIRST_FORMAT for mark in self._rescued.unopened.values())
            is_last = not any(rescued)
            is_last = is_last and await self._read(sealed_cells.of_first_format) <= spoilt
        stored = await self._write(
            lambda tx: keys.reseal_fingerprint_key(tx.connection, keyring, is_last=is_last)
        )
        keyring.accepts_first = not is_last
        return stored


def change_key(tx: Transaction, holder: str) -> tuple[list[bytes], list[Reader]]:
    """Let the first key of the file seal from this commit on, if every replica can open it.

    Args:
        holder: who asks; what it can open is known.

    Returns:
        The keys that have sealed the vault, the one that does first; and who is waited for.
    """
    keys.lock(tx.connection)
    keyring, used = tx.sealer.keyring, keys.used_keys(tx.connection)
    key = next_to_seal(keyring.ids, used)
    if key is None:
        return used, []
    unread = unread_by(heartbeats.known(tx.connection), FORMAT + key, tx.now)
    waited_for: list[Reader] = [one for one in unread if one.holder != holder]
    return (used, waited_for) if waited_for else (keys.use(tx.connection, key, used), [])
