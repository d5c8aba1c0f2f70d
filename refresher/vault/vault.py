"""The vault as the engine sees it: durable operations on grants, each one transaction."""

import secrets
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from refresher.clock import Clock, WatchedClock
from refresher.domain.adoption import Transition
from refresher.domain.claiming import Room
from refresher.domain.grants import Claim, Grant, Publication
from refresher.domain.logins import NO_LOGIN, Consent
from refresher.domain.requests import Rejected
from refresher.domain.secret import Secret
from refresher.domain.seeds import Seed
from refresher.errors import GrantSetAside, VaultUnavailable
from refresher.vault import (
    authorizations,
    candidates,
    changes,
    claims,
    client_records,
    clock_steps,
    endings,
    exchanges,
    hastening,
    incidents,
    keeping,
    keys,
    leases,
    logins,
    outbox,
    pauses,
    queries,
    rejections,
    revocations,
    seeds,
)
from refresher.vault.aside import Aside
from refresher.vault.candidates import Ahead
from refresher.vault.claims import Wanted
from refresher.vault.database import Database
from refresher.vault.exchanges import Committed
from refresher.vault.heartbeats import Backends
from refresher.vault.incidents import Incident
from refresher.vault.listing import Listing
from refresher.vault.origin import Origin
from refresher.vault.outage import Outage
from refresher.vault.queries import Overdue
from refresher.vault.readable import Readable
from refresher.vault.readmitting import Readmitting
from refresher.vault.rejections import Taken
from refresher.vault.rescue import RescueFile
from refresher.vault.rescued import Rescued
from refresher.vault.resealing import Resealing
from refresher.vault.rows import Sealer, Transaction
from refresher.vault.seeds import Seeded
from refresher.vault.sqlite import backup
from refresher.vault.sqlite.file_lock import FileLock
from refresher.vault.sqlite.files import Files
from refresher.vault.transactions import Transactions


class Vault:
    """An open vault, owned by this process until ``close``."""

    def __init__(
        self,
        database: Database,
        sealer: Sealer,
        lock: FileLock,
        rescue: RescueFile,
        files: Files,
        *,
        following: clock_steps.Following,
        clock: Clock,
        measure_clock: Callable[[], Awaitable[None]] | None = None,
        name: str | None = None,
        backends: Backends | None = None,
    ) -> None:
        self._database, self._sealer, self._lock = database, sealer, lock
        self.measure_clock = measure_clock
        """Follows the clock of the database, where that one dates what is stored."""
        self.files, self.rescued = files, Rescued(rescue, sealer)
        self.holder = secrets.token_hex(8)
        """Names this opening of the vault in leases."""
        self._aside, self._ahead, self._following = Aside(), Ahead(), following
        self._doubted: list[Claim] = []
        """Claims whose commit was refused and may have taken effect; their leases have no end."""
        self.clock = WatchedClock(clock, self._clock_set_back)
        """Dates all that is stored; whoever compares with what is stored asks it."""
        self._transactions = Transactions(
            database, sealer, self._aside, files, following=following, clock=self.clock
        )
        self._write, self._read = self._transactions.write, self._transactions.read
        self._readmitting = Readmitting(database, self._write, sealer, self._aside)
        self.open_another, self.size = database.open_another, database.size
        self.leases = leases.Leases(self._transactions, self.clock, self.holder, name, backends)
        """Who holds which exchange, and who else shares the vault."""
        self.revocations = revocations.Revocations(write=self._write, read=self._read)
        """What was revoked by an operator, and has still to be at its server."""
        self.kept = keeping.Kept(write=self._write, read=self._read)
        """Answers that found no place in a grant."""
        self.client_records = client_records.ClientRecords(write=self._write, read=self._read)
        """What is known of clients beside their settings."""
        self.changes = changes.Changes(write=self._write, read=self._read)
        """Who changed what."""
        self.outbox = outbox.VaultOutbox(write=self._write, read=self._read)
        """What people are to be told."""
        self.logins = logins.LoginsUnderWay(write=self._write, read=self._read)
        """Logins that any process may finish."""
        self.hastening = hastening.Hastening(write=self._write, read=self._read)
        """What is made due because something was mended."""
        self.endings = endings.Endings(write=self._write, read=self._read)
        """Known ends of refresh tokens."""
        self.pauses = pauses.Pauses(write=self._write, read=self._read)
        """What operators pause and resume."""
        self.resealing = Resealing(
            *(self._write, self._read, sealer, self.rescued),
            holder=self.holder,
            outage=database.outage,
        )
        """The keys, and what is sealed under which."""
        self.listing = Listing(database.read, self._aside)
        """What people ask about many grants at once."""
        self.grants, self.counts = self.listing.grants, self.listing.counts
        self.readable = Readable(database.read, sealer, self._aside)
        self.versions = self.readable.versions
        self.origin = Origin(write=self._write, files=files)
        self.seen_newer = self.origin.seen_newer
        self.steps = clock_steps.ClockSteps(
            following, write=self._write, clock=self.clock, is_shared=database.is_shared
        )
        """What a stepped clock does to what is stored."""

    @property
    def is_alone(self) -> bool:
        """Whether this process is the only one that writes: the lock is on the vault itself."""
        return self._lock.is_held and not self._database.is_shared

    @property
    def outage(self) -> Outage:
        """Whether the vault refuses or hangs just now."""
        return self._database.outage

    async def claim(
        self, rooms: Sequence[Room], shared: int, *, only: str | None = None
    ) -> list[Claim]:
        """Lease due grants and write their intents; see ``claims.claim``.

        Raises:
            VaultUnavailable: nothing may be sent; what is claimed all the same is taken
                back by the next claim or ``prove_writable``.
        """
        self._require()
        now = self.clock.now()
        set_back, disturbances = self._following.set_back, self._transactions.disturbances
        doubted = list(self._doubted)
        wanted = Wanted(
            *(self.holder, self.leases.name, self._ahead, disturbances, rooms, shared, only),
            older_than=self.origin.older_than,
            unsent=doubted,
            set_back=set_back,
            share=self.leases.share(),
        )
        try:
            claimed, changed = await self._transactions.write_with_others(
                claims.claim, claims.claim_each, wanted, now
            )
        except VaultUnavailable:
            self._doubted += wanted.made
            raise
        self._believe(doubted)
        for grant in changed:
            pauses.tell_claimed(grant)
        return claimed

    async def is_held(self, claim: Claim) -> bool:
        """Whether a claim may still be sent; see ``claims.are_held``.

        Where the vault is ours alone, only what was handed over since, but for claims and
        commits, can have changed that.
        """
        self.files.require()
        if self.is_alone and claim.seen == self._transactions.disturbances:
            return True
        is_held = await self._database.read_with_others(claims.are_held, (self.holder, claim))
        return is_held and self.leases.may_begin(claim)

    async def commit(self, claim: Claim, outcome: Transition) -> Committed:
        """Apply an outcome under the commit rule; see ``exchanges.commit``.

        Both are of the clock that CLAIM is of, and follow it: that may be long ago.

        Raises:
            VaultUnavailable: nothing was applied, or nobody knows.
            GrantSetAside: the grant's row can neither be read nor written.
        """
        now = self.clock.now()
        current = claim.on_clock(self._following.set_back)
        exchange = (current, outcome.moved(current.set_back - claim.set_back))
        is_plain = current is claim and claim.seen >= 0 and exchanges.is_plain(claim, outcome)
        try:
            if is_plain:
                committed = await self._transactions.write_with_others(
                    exchanges.commit_plain, exchanges.commit, exchange, now
                )
                # Another may have changed the row by the time it is sent.
                return committed if self.is_alone else replace(committed, publication=None)
            # What a dead process left may be of a grant whose next exchange has been claimed.
            return await self._write(
                lambda tx: exchanges.commit(tx, exchange), now=now, disturbs=claim.seen < 0
            )
        except GrantSetAside as error:
            await self._readmitting.put(claim.grant.id, error)
            raise

    async def next_due(self, rooms: Sequence[Room]) -> float | None:
        """When the first grant is due that may begin; see ``candidates.next_due``."""
        return await self._database.read(lambda c: candidates.next_due(c, rooms, aside=self._aside))

    async def time_passed(
        self, held_back: Callable[[], Collection[str]] = tuple
    ) -> list[tuple[Grant, Grant]]:
        """Let the clock move states; see ``queries.time_passed``."""
        if not await self._read(queries.has_time_passed):
            return []
        clients = held_back()
        return await self._write(lambda tx: queries.time_passed(tx, clients))

    async def apply_seed(
        self, seed: Seed, draw: float, *, origin: str, replace_spent: bool = False
    ) -> Seeded:
        """Bring one grant in line with a seed; see ``seeds.apply_seed``."""
        [seeded] = await self.apply_seeds([seed], draw, origin=origin, replace_spent=replace_spent)
        return seeded

    async def apply_seeds(
        self, wanted: Sequence[Seed], draw: float, *, origin: str, replace_spent: bool = False
    ) -> list[Seeded]:
        """Apply the seeds WANTED in one transaction: all of them, or none."""
        now, since_boot = self.clock.now(), self.clock.since_boot()

        def apply(tx: Transaction) -> list[Seeded]:
            clock_steps.mark(tx, since_boot)  # a long import has no watch
            return seeds.apply_seeds(tx, wanted, draw, origin=origin, replace_spent=replace_spent)

        return await self._write(apply, now=now)

    async def unchanged(self, wanted: Sequence[Seed]) -> set[str]:
        """Which of WANTED say nothing new; see ``seeds.unchanged``."""
        return await self._read(lambda tx: seeds.unchanged(tx, wanted))

    async def authorize(self, name: str, outcome: Transition, by: Consent = NO_LOGIN) -> Grant:
        """Put the tokens of a login into a grant; see ``authorizations.authorize``."""
        return await self._write(lambda tx: authorizations.authorize(tx, name, outcome, by))

    async def set_token(
        self, name: str, token: Secret, *, expires_at: float | None, token_type: str
    ) -> Grant:
        """Replace a static token; see ``authorizations.set_token``."""
        return await self._write(
            lambda tx: authorizations.set_token(
                tx, name, token, expires_at=expires_at, token_type=token_type
            )
        )

    async def remove(self, name: str) -> Grant:
        """Forget a grant's secrets; see ``authorizations.remove``."""
        return await self._write(lambda tx: authorizations.remove(tx, name))

    async def is_out(self, grant: Grant) -> bool:
        """Whether the latest exchange of GRANT is under way; see ``revocations.is_out``."""
        return await self._database.read(lambda c: revocations.is_out(c, grant))

    async def request_refresh(self, name: str) -> Grant | None:
        """Make a grant due now; see ``authorizations.request_refresh``."""
        return await self._write(lambda tx: authorizations.request_refresh(tx, name))

    async def take_rejections(self, rejected: Mapping[str, Rejected]) -> Taken:
        """Answer what consumers rejected; see ``rejections.take``."""
        return await self._write(lambda tx: rejections.take(tx, rejected))

    def fingerprint(self, refresh_token: Secret) -> bytes:
        """By what this vault recognizes REFRESH_TOKEN."""
        return self._sealer.fingerprint(refresh_token)

    async def owner_of(self, grant: Grant, refresh_token: Secret) -> str | None:
        """The name of another grant of the client of GRANT that holds REFRESH_TOKEN."""
        return await self._read(
            lambda tx: authorizations.owner_of(tx, grant.client, refresh_token, but=grant.id)
        )

    async def prove_writable(self) -> None:
        """Write something durable, before what is single-use is spent; take back doubted claims.

        Raises:
            VaultUnavailable: the vault cannot take an answer now.
        """
        self._require()
        doubted = list(self._doubted)
        now, since_boot = self.clock.now(), self.clock.since_boot()

        def touch(tx: Transaction) -> None:
            claims.take_back(tx, self.holder, doubted)
            clock_steps.mark(tx, since_boot)

        await self._write(touch, now=now, disturbs=False)
        self._believe(doubted)

    async def incidents_over(self) -> list[Incident]:
        """The incidents that have ended, each once; see ``incidents.close``."""
        if not await self._database.read(incidents.over):
            return []
        return await self._write(incidents.close)

    def _clock_set_back(self, offset: float) -> None:
        """Follow a wall clock that was set back by OFFSET, a negative number, just now."""
        if self._database.is_shared:
            return  # what is stored stays where it is; see ``ClockSteps.follow``
        self._following.clock_set_back(offset)
        self.origin.clock_set_back(offset)

    @property
    def set_back(self) -> float:
        """What the clock was set back by since the opening; see ``Following``."""
        self.clock.now()  # tells of a step that nobody has met yet
        return self._following.set_back

    async def read(self, names: Sequence[str]) -> list[Publication]:
        """What is to be published of NAMES, without those set aside."""
        return await self._database.read(
            lambda c: queries.publications(c, self._sealer, self._aside, names)
        )

    async def walk(self, after: int, limit: int) -> list[Publication]:
        """What is to be published of everything, in batches by id."""
        return await self._database.read(
            lambda c: queries.walk(c, self._sealer, self._aside, after, limit)
        )

    def may_be_set_aside(self, name: str) -> bool:
        """Whether NAME may be a grant whose row cannot be read now."""
        return self._aside.may_hold(name)

    async def look_at_set_aside(self) -> list[str]:
        """Try the rows set aside again; the names of those that are sound now."""
        if sound := await self._readmitting.look():
            self.resealing.request()  # they were left out
        return sound

    async def find(self, name: str) -> Grant | None:
        """The grant NAME, if there is one.

        Raises:
            GrantSetAside: there is, and its row cannot be read.
        """
        return await self._database.read(lambda c: queries.find_grant(c, name))

    async def overdue(self, before: float) -> list[Overdue]:
        """What is due since before BEFORE and nobody works on; see ``queries.overdue``."""
        return await self._database.read(lambda c: queries.overdue(c, self._aside, before))

    def is_refresh_token_of(self, grant: Grant, refresh_token: Secret | None) -> bool:
        """Whether REFRESH_TOKEN is, or was right before, the one that GRANT holds."""
        known = {grant.refresh_token_fingerprint, grant.predecessor_fingerprint}
        return refresh_token is not None and self._sealer.fingerprint(refresh_token) in known

    async def save(self, copy: Path) -> None:
        """Copy what the open connection reads, wherever its file is; see ``backup``."""
        now = self.clock.now()
        await self._database.on_connection(lambda c: backup.write_copy(c, copy, now))

    def abandon(self) -> None:
        """Let nobody wait for the vault any longer: the process ends."""
        self._database.abandon()

    def close(self) -> None:
        """Close every file and let the next process in.

        Where a thread hangs in the disk, both is left to the end of the process.
        """
        is_closed = self._database.close()
        self.rescued.close()
        self.files.close()
        if is_closed:
            self._lock.release()

    def _require(self) -> None:
        """Raise ``VaultUnavailable`` where nothing may be begun."""
        self.files.require()
        if self._sealer.keyring.missing is not None:
            raise VaultUnavailable(keys.lacking(self._sealer.keyring))

    def _believe(self, taken_back: Sequence[Claim]) -> None:
        self._doubted = [claim for claim in self._doubted if claim not in taken_back]
