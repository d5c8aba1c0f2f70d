"""Writing what must not be lost: for ever, and safe beside the vault meanwhile."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from refresher.domain.grants import Grant
from refresher.errors import VaultUnavailable
from refresher.logs import Event, emit
from refresher.vault.vault import Vault

T = TypeVar("T")

FIRST_RETRY = 0.1
LONGEST_RETRY = 5.0
"""Seconds between tries to write an answer the vault refuses."""


class Durability:
    """Keeps trying to write; says so once when it begins to fail and once when it ends."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._refused = 0
        self._abandoned = anyio.Event()

    @property
    def is_refused(self) -> bool:
        """Whether the vault refuses a write just now."""
        return self._refused > 0

    def abandon(self) -> None:
        """Stop trying: the process ends, and what could be rescued is in the rescue file."""
        self._abandoned.set()

    async def until_written(
        self, write: Callable[[], Awaitable[T]], *, grant: Grant, record: bytes | None = None
    ) -> T:
        """Call WRITE until the vault takes it; keep RECORD in the rescue file meanwhile.

        Raises:
            VaultUnavailable: abandoned at the end of the process.
        """
        try:
            return await write()
        except VaultUnavailable as error:
            self._report_refusal(error)
        self._refused += 1
        slot = None if record is None else self._vault.rescue(record)
        if record is not None:
            emit(
                Event.ANSWER_RESCUED,
                grant=grant.name,
                outcome="rescued" if slot is not None else "in memory only",
            )
        try:
            written = await self._retry(write)
        finally:
            self._refused -= 1
        if slot is not None:
            self._vault.forget_rescued(slot)
        if not self.is_refused:
            emit(Event.VAULT_RECOVERED)
        return written

    async def _retry(self, write: Callable[[], Awaitable[T]]) -> T:
        wait = FIRST_RETRY
        while True:
            with anyio.move_on_after(wait):
                await self._abandoned.wait()
            try:
                return await write()
            except VaultUnavailable:
                if self._abandoned.is_set():
                    raise
            wait = min(wait * 2, LONGEST_RETRY)

    def _report_refusal(self, error: VaultUnavailable) -> None:
        if not self.is_refused:
            emit(Event.VAULT_REFUSED, reason=str(error))
