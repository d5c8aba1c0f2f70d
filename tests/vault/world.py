"""What the tests of vault and engine share: clients, seeds, outcomes, and an open vault."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from refresher.clock import SinceBoot
from refresher.domain.adoption import Attempt, Transition, adopt_authorization
from refresher.domain.claiming import Room
from refresher.domain.clients import Client
from refresher.domain.grants import Claim, Grant, GrantKind
from refresher.domain.outcomes import NotSent, Outcome, OutcomeUnknown, Refreshed, TokenAnswer
from refresher.domain.quirks import Rotation
from refresher.domain.secret import Secret
from refresher.domain.seeds import Seed
from refresher.domain.transition import transition
from refresher.vault import kept
from refresher.vault.exchanges import Committed
from refresher.vault.opening import open_vault
from refresher.vault.schema import kept_answers
from refresher.vault.sealing import write_key_file
from refresher.vault.vault import Vault
from tests.support import clients

NOW = 1_800_000_000.0
LIFE = 3600.0
DRAW = 0.5
UNKNOWN: Outcome = OutcomeUnknown(reason="timeout")
NOT_SENT: Outcome = NotSent(reason="refused")


_ELAPSED = SinceBoot("", 0.0)


class FakeClock:
    """A clock that stands still until it is told to move."""

    def __init__(self, now: float = NOW) -> None:
        self._now, self._monotonic = now, 0.0
        self.next_draw = DRAW
        self.boot = "boot-1"
        self.booted: SinceBoot | None = _ELAPSED
        """What ``since_boot`` says, where that is not what has passed."""
        self.monotonic_reads = 0

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        self.monotonic_reads += 1
        return self._monotonic

    def since_boot(self) -> SinceBoot | None:
        return SinceBoot(self.boot, self._monotonic) if self.booted is _ELAPSED else self.booted

    def draw(self) -> float:
        return self.next_draw

    def move(self, seconds: float) -> None:
        """Let SECONDS pass."""
        self._now += seconds
        self._monotonic += seconds

    def put(self, now: float, booted: SinceBoot | None) -> None:
        """Let it be NOW, as much time having passed as that takes, back or forth."""
        self.booted = booted
        self.move(now - self._now)

    def step(self, seconds: float) -> None:
        """Set the wall clock by SECONDS while no time passes."""
        self._now += seconds


def make_client(name: str = "crm", *, rotation: str = "strict", **changes: Any) -> Client:
    """A client of a server that rotates strictly, unless told otherwise."""
    return clients.make_client(
        name,
        client_id=f"{name}-id",
        client_secret=Secret("canary-client-secret"),
        token_endpoint=f"https://{name}.example/token",
        authorization_endpoint=f"https://{name}.example/authorize",
        redirect_uris=("http://127.0.0.1:8400/callback",),
        rotation=Rotation.parse(rotation),
        **changes,
    )


CRM = make_client()


def make_seed(
    name: str = "acme", refresh_token: str | None = "rt-0", *, client: str = "crm", **parts: Any
) -> Seed:
    """A refreshable grant of the settings, with REFRESH_TOKEN unless that is None."""
    token = None if refresh_token is None else Secret(refresh_token)
    return Seed(name=name, client=client, refresh_token=token, **parts)


def static_seed(name: str = "pat", token: str = "static-0", **parts: Any) -> Seed:
    """A static token of the settings."""
    return Seed(name=name, kind=GrantKind.STATIC, access_token=Secret(token), **parts)


def answered(access_token: str, refresh_token: str | None = None, **parts: Any) -> Refreshed:
    """A token response with an hour of life."""
    parts.setdefault("expires_in", LIFE)
    answer = TokenAnswer(
        access_token=Secret(access_token),
        refresh_token=None if refresh_token is None else Secret(refresh_token),
        **parts,
    )
    return Refreshed(answer=answer, status=200)


def outcome_of(
    claim: Claim, outcome: Outcome, now: float = NOW, client: Client = CRM
) -> Transition:
    """What OUTCOME, sent and answered at NOW, makes of the claimed grant."""
    return transition(claim, client, outcome, Attempt(sent_at=now, ended_at=now, draw=DRAW))


def login_of(
    grant: Grant, outcome: Refreshed, now: float = NOW, client: Client = CRM
) -> Transition:
    """What a login that ended in OUTCOME makes of GRANT."""
    attempt = Attempt(sent_at=now, ended_at=now, draw=DRAW)
    return adopt_authorization(grant, client, outcome.answer, attempt)


URLS: dict[Path, Secret] = {}
"""Folders whose vault lies in PostgreSQL, and where; of all others it is a file."""


@asynccontextmanager
async def opened(folder: Path, clock: FakeClock | None = None) -> AsyncIterator[Vault]:
    """The vault in FOLDER, made with its key if missing, closed afterwards; on CLOCK."""
    key_file = folder / "key"
    if not key_file.exists():
        write_key_file(key_file)
    url = URLS.get(folder)
    vault = await open_vault(folder / "vault.db", key_file, url=url, clock=clock or FakeClock())
    try:
        yield vault
    finally:
        vault.close()


def clock_of(vault: Vault) -> FakeClock:
    """The clock that VAULT was opened with."""
    clock = vault.clock._clock
    assert isinstance(clock, FakeClock)
    return clock


def at(vault: Vault, now: float, booted: SinceBoot | None = _ELAPSED) -> Vault:
    """VAULT when it is NOW, and BOOTED so long ago."""
    clock_of(vault).put(now, booted)
    return vault


async def sow(vault: Vault, *seeds: Seed, now: float = NOW) -> None:
    """Add SEEDS as the settings would."""
    await at(vault, now).apply_seeds(seeds, DRAW, origin="settings")


def rooms(**places: int) -> list[Room]:
    """Room for PLACES exchanges of each client named; every gate shares what there is."""
    return [
        Room(client=name, gate=name, places=count, failing=count, doubted=count)
        for name, count in places.items()
    ]


async def claim_one(vault: Vault, now: float = NOW, name: str = "acme") -> Claim:
    """Lease NAME, which must be due."""
    [claim] = await at(vault, now).claim(rooms(crm=1), 1, only=name)
    return claim


async def claim_again(vault: Vault, now: float = NOW, name: str = "acme") -> Claim:
    """Lease NAME although an exchange is open, as after the death of its holder."""
    await release(vault, now)
    return await claim_one(vault, now, name)


async def release(vault: Vault, now: float = NOW) -> list[Grant]:
    """End every lease, as a new process does; the grants that had one."""
    leased: list[Grant] = []
    await at(vault, now).leases.release(leased.append)
    return leased


async def finish(
    vault: Vault, claim: Claim, outcome: Outcome, now: float = NOW, client: Client = CRM
) -> Committed:
    """Commit OUTCOME for CLAIM."""
    return await at(vault, now).commit(claim, outcome_of(claim, outcome, now, client))


async def refresh(vault: Vault, outcome: Outcome, now: float = NOW, name: str = "acme") -> Grant:
    """Carry out one refresh of NAME, which must be due, with OUTCOME."""
    committed = await finish(vault, await claim_one(vault, now, name), outcome, now)
    assert committed.grant is not None
    return committed.grant


async def get(vault: Vault, name: str = "acme") -> Grant:
    """The grant NAME, which must exist."""
    grant = await vault.find(name)
    assert grant is not None
    return grant


async def access_token(vault: Vault, name: str = "acme") -> str | None:
    """The access token that would be published for NAME."""
    [publication] = await vault.read([name])
    return publication.access_token.reveal() if publication.access_token else None


def holds(vault: Vault, grant: Grant, refresh_token: str) -> bool:
    """Whether REFRESH_TOKEN is the stored one."""
    return grant.refresh_token_fingerprint == vault._sealer.fingerprint(Secret(refresh_token))


async def orphans(vault: Vault) -> list[dict[str, Any]]:
    """The orphaned answers, opened, oldest first."""
    statement = sa.select(kept_answers).where(kept_answers.c.kind == "orphan")
    rows = await vault._database.read(lambda c: c.execute(statement).mappings().all())
    return [
        json.loads(vault._sealer.keyring.open(row["sealed"], kept.place_of(row))) for row in rows
    ]


async def rescue(vault: Vault, record: bytes) -> int:
    """Put RECORD into the rescue file, as a process does whose vault refuses; its slot."""
    rescue = vault.rescued.put(record, lambda _: None)
    await rescue.is_settled.wait()
    assert rescue.is_written
    assert rescue.slot is not None
    return rescue.slot


async def step_back(vault: Vault, offset: float, now: float = NOW) -> list[str]:
    """Set the wall clock, NOW, back by OFFSET; the names of the grants that followed."""
    clock_of(at(vault, now)).step(offset)
    return [name async for names in vault.steps.follow() for name in names]


def pragma(vault: Vault, statement: str) -> object:
    """Run PRAGMA STATEMENT on the one connection that writes, outside of transactions."""
    connection = vault._database._writer.raw_connection()
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA {statement}")
    row = cursor.fetchone()
    cursor.close()
    connection.close()
    return row and row[0]


def set_writable(vault: Vault, *, writable: bool) -> None:
    """Let the vault's own database refuse every write, or take them again."""
    pragma(vault, f"query_only = {int(not writable)}")
