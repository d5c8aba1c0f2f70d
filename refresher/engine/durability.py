"""Writing what must not be lost: for ever, and safe beside the vault meanwhile."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace
from typing import TypeVar

import anyio

from refresher.domain.grants import Claim, Grant, GrantState, Intent, TokenSet
from refresher.domain.secret import Secret
from refresher.domain.transition import Transition
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


def rescue_record(claim: Claim, outcome: Transition) -> bytes | None:
    """What a later process needs to adopt the tokens of OUTCOME; None when it has none."""
    tokens = outcome.tokens
    if tokens is None:
        return None
    intent = claim.intent
    return json.dumps(
        {
            "name": claim.grant.name,
            "uid": claim.grant.uid,
            "authorization_serial": claim.grant.authorization_serial,
            "intent": {**asdict(intent), "presented": intent.presented.hex()},
            "due_at": outcome.grant.due_at,
            "tokens": {
                "access_token": _revealed(tokens.access_token),
                "refresh_token": _revealed(tokens.refresh_token),
                "token_type": tokens.token_type,
                "scope": tokens.scope,
                "issued_at": tokens.issued_at,
                "expires_at": tokens.expires_at,
                "refresh_token_expires_at": tokens.refresh_token_expires_at,
                "extras": dict(tokens.extras),
            },
        }
    ).encode()


def read_rescue_record(record: bytes, stored: Grant) -> tuple[Claim, Transition]:
    """The claim and the transition RECORD was made of, on the grant as it is STORED now."""
    content = json.loads(record)
    found = content["tokens"]
    tokens = TokenSet(
        **{
            **found,
            "access_token": _secret(found["access_token"]),
            "refresh_token": _secret(found["refresh_token"]),
        }
    )
    kept = content["intent"]
    intent = Intent(**{**kept, "presented": bytes.fromhex(kept["presented"])})
    claimed = replace(
        stored,
        intent=intent,
        uid=content["uid"],
        authorization_serial=content["authorization_serial"],
    )
    after = replace(
        stored,
        intent=None,
        failures=0,
        due_at=content["due_at"],
        reason=None,
        refresh_token_expires_at=tokens.refresh_token_expires_at or stored.refresh_token_expires_at,
    )
    if tokens.access_token is not None:
        after = replace(
            after,
            state=GrantState.FRESH,
            issued_at=tokens.issued_at,
            expires_at=tokens.expires_at,
        )
    claim = Claim(grant=claimed, refresh_token=Secret(""), access_token=None)
    return claim, Transition(grant=after, tokens=tokens)


def name_in(record: bytes) -> str:
    """The name of the grant RECORD belongs to."""
    name: str = json.loads(record)["name"]
    return name


def _revealed(secret: Secret | None) -> str | None:
    return None if secret is None else secret.reveal()


def _secret(value: str | None) -> Secret | None:
    return None if value is None else Secret(value)
