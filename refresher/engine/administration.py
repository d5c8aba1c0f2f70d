"""What people and the settings ask for: imports, removals, refreshes, seeds.

The same operations serve a running daemon, through its control socket, and a command
that works alone on the vault.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as with_fields
from functools import partial

from refresher.acting import CONSUMER, SETTINGS, acting
from refresher.clock import Clock
from refresher.domain.clients import Client
from refresher.domain.grants import Grant
from refresher.domain.requests import Rejected
from refresher.domain.secret import Secret
from refresher.domain.seeds import Seed
from refresher.engine.announcements import (
    TOLD_ONE_BY_ONE,
    announce,
    announce_answer,
    announce_imported,
    announce_seeded,
)
from refresher.errors import (
    AuthorizationFailed,
    DuplicateRefreshToken,
    GrantConflict,
    GrantSetAside,
    UnknownGrant,
)
from refresher.logs import Event, emit
from refresher.vault.exporting import Page
from refresher.vault.pauses import Changes
from refresher.vault.sealed_counts import SealedUnder
from refresher.vault.seeds import Seeded, SeedResult
from refresher.vault.selecting import Selection
from refresher.vault.vault import Vault

SEEDS_AT_ONCE = 500
"""Seeds that are looked at in one turn of the thread that reads."""

SEEDS_CHANGED_AT_ONCE = 50
"""Seeds that are applied in one transaction."""


@dataclass(slots=True)
class Changed:
    """What an order came to that many grants may be meant by."""

    count: int
    """Grants that it changed."""
    grants: list[Grant]
    """Those that were named, as they are now; empty where a whole client was meant."""


class Administration:
    """Changes grants on request; every change is durable before it is acknowledged.

    Args:
        publish_behind: is told that every grant with an id above this one is new, where very
            many are; None: each is told by its name.
    """

    def __init__(
        self,
        *,
        vault: Vault,
        clients: Mapping[str, Client],
        publish: Callable[[str], None],
        wake: Callable[[], None],
        clock: Clock,
        publish_behind: Callable[[int], None] | None = None,
    ) -> None:
        self._vault = vault
        self._clients = clients
        self._publish, self._publish_behind = publish, publish_behind
        self._wake = wake
        self._clock = clock

    async def grant(self, name: str) -> Grant:
        """The grant NAME.

        Raises:
            UnknownGrant: there is none of this name.
        """
        grant = await self._vault.find(name)
        if grant is None:
            raise UnknownGrant(name)
        return grant

    async def refresh(self, name: str) -> Grant | None:
        """Make NAME due now; None when it cannot be (static, paused, or it needs a person).

        Raises:
            UnknownGrant: there is none of this name.
        """
        grant = await self._vault.request_refresh(name)
        event = Event.REQUEST_IGNORED if grant is None else Event.REQUEST_ACCEPTED
        emit(event, grant=name, reason="operator")
        if grant is not None:
            self._changed([name])
        return grant

    async def pause(self, selected: Selection, seconds: float | None) -> Changed:
        """Send nothing for SELECTED, for so many SECONDS or until they are resumed.

        An exchange that is out is not cut off: what it brings is kept. The current tokens stay
        published to their end.

        Raises:
            UnknownGrant: there is none of a name; none was paused.
        """
        until = None if seconds is None else self._vault.clock.now() + seconds
        pause = partial(self._vault.pauses.pause, until=until)
        return await self._change(selected, pause, Event.GRANT_PAUSE_ORDERED, ends_at=until)

    async def resume(self, selected: Selection) -> Changed:
        """End the pauses of SELECTED, for whatever reason they are paused, and refresh them now.

        Raises:
            UnknownGrant: there is none of a name; none was resumed.
        """
        return await self._change(selected, self._vault.pauses.resume, Event.GRANT_RESUMED)

    async def export(self, selected: Selection, after: int) -> Page:
        """Hand out the refresh tokens of a page of SELECTED with ids above AFTER.

        Each of them is paused before: whoever gets it rotates it from now on.

        Raises:
            UnknownGrant: there is none of a name; nothing was handed out.
        """
        for name in (selected.names or ()) if after == 0 else ():
            await self.grant(name)
        page = await self._vault.pauses.export(selected, after=after)
        for one in page.exported:
            name, client = one.grant.name, one.grant.client
            emit(Event.GRANT_PAUSE_ORDERED, grant=name, client=client, reason="exported")
        self._changed([one.grant.name for one in page.exported])
        return page

    def refresh_token_dies_at(self, grant: Grant) -> float | None:
        """When the refresh token of GRANT dies if it is not used before; None: nobody knows."""
        if grant.kind.renews_itself:
            return None
        client = self._clients.get(grant.client or "")
        used_at = grant.served_at or grant.refresh_token_obtained_at
        ends = [grant.refresh_token_expires_at]
        idle = None if client is None else client.quirks.refresh_token_idle
        if idle is not None and used_at is not None:
            ends.append(used_at + idle)
        return min((end for end in ends if end is not None), default=None)

    async def ask_lost(self, names: Sequence[str] | None, client: str | None) -> list[str]:
        """Present once more refresh tokens that were finally rejected, on an operator's word.

        One after the other, the one served last first; a second refusal leaves the grant as
        it was.

        Args:
            names: these grants; None takes all.
            client: those of this client; None takes all.

        Returns:
            The names that are asked for, in their order.

        Raises:
            UnknownGrant: there is none of a name.
        """
        for name in names or ():
            await self.grant(name)
        asked = await self._vault.hastening.ask_lost(names=names, client=client)
        for name in asked:
            emit(Event.REQUEST_ACCEPTED, grant=name, reason="operator: lost")
        self._changed(asked)
        return asked

    async def take_rejections(self, rejected: Mapping[str, Rejected]) -> set[str]:
        """Take consumers' word that they were refused with an access token.

        However many they were, the vault is asked once, and each grant has one line for each
        new answer.

        Returns:
            The grants of which a version above the vault's was named: it counts only together
            with the version of an earlier life, if Redis shows one.

        Raises:
            VaultUnavailable: nothing was taken; the same may be said again.
        """
        with acting(CONSUMER):
            taken = await self._vault.take_rejections(rejected)
            for before, after in taken.changed:
                announce_answer(after, rejected[after.name].reason)
                announce(before, after)
        ignored = len(rejected) - len(taken.changed) - len(taken.ahead)
        if ignored:
            emit(Event.REQUEST_IGNORED, count=ignored, reason="unknown, outdated or answered")
        self._changed([after.name for _, after in taken.changed])
        return taken.ahead

    async def remove(self, name: str) -> Grant:
        """Forget NAME and its tokens, here and in Redis; its server is not asked to revoke them.

        What an exchange brings that is out meanwhile is kept aside and never revoked: it may
        hold the only good tokens of whoever took the grant over.

        Raises:
            UnknownGrant: there is none of this name.
        """
        before = await self.grant(name)
        removed = await self._vault.remove(name)
        lives_on = before.is_renewable or before.issued_at is not None
        reason = "not revoked at its server" if lives_on else None
        emit(Event.GRANT_REMOVED, grant=name, client=before.client, reason=reason)
        self._changed([name])
        return removed

    async def is_out(self, grant: Grant) -> bool:
        """Whether an exchange is under way that was begun before GRANT became what it is."""
        return await self._vault.is_out(grant)

    async def set_token(
        self, name: str, token: Secret, *, expires_at: float | None, token_type: str
    ) -> Grant:
        """Replace the static token of NAME.

        Raises:
            UnknownGrant, GrantConflict: see ``Vault.set_token``.
        """
        before = await self.grant(name)
        grant = await self._vault.set_token(
            name, token, expires_at=expires_at, token_type=token_type
        )
        emit(Event.GRANT_TOKEN_SET, grant=name, version=grant.version, expires_at=expires_at)
        announce(before, grant)
        self._changed([name])
        return grant

    async def rotate_key(self) -> str:
        """Bring a new vault key in; the id of it. Everything else is brought under it later.

        Raises:
            VaultKeyError: the key file cannot be written.
        """
        key_id = await self._vault.resealing.rotate()
        await self._vault.changes.note_key(key_id)
        return key_id

    async def sealed_under(self) -> tuple[list[SealedUnder], bool]:
        """What is sealed under each key, and whether a resealing is still to be done.

        Raises:
            VaultKeyError: the key file cannot be used as it is now.
        """
        is_due = self._vault.resealing.is_due
        return await self._vault.resealing.status(), is_due

    async def apply_settings(self, seeds: Sequence[Seed]) -> None:
        """Bring the vault in line with the settings; a seed that cannot be applied is skipped.

        Raises:
            VaultUnavailable: the vault refuses.
        """
        changed: list[str] = []
        with acting(SETTINGS):
            news = [self._kept_alive(seed) for seed in await self._news(seeds)]
            for start in range(0, len(news), SEEDS_CHANGED_AT_ONCE):
                for seeded in await self._applied(news[start : start + SEEDS_CHANGED_AT_ONCE]):
                    announce_seeded(seeded, origin="settings")
                    if seeded.result is not SeedResult.UNCHANGED:
                        changed.append(seeded.grant.name)
        self._changed(changed)

    async def _applied(self, seeds: Sequence[Seed]) -> list[Seeded]:
        """What became of SEEDS: of all in one go, or of each alone where one is refused."""
        draw = self._clock.draw()
        try:
            return await self._vault.apply_seeds(seeds, draw, origin="settings")
        except (DuplicateRefreshToken, GrantConflict, GrantSetAside) as error:
            if len(seeds) == 1:
                emit(Event.GRANT_SKIPPED, grant=seeds[0].name, reason=str(error))
                return []
        return [seeded for seed in seeds for seeded in await self._applied([seed])]

    async def _news(self, seeds: Sequence[Seed]) -> list[Seed]:
        """Those of SEEDS that may change something: very few, where settings are read again."""
        found: list[Seed] = []
        for start in range(0, len(seeds), SEEDS_AT_ONCE):
            some = seeds[start : start + SEEDS_AT_ONCE]
            settled = await self._vault.unchanged(some)
            found += [seed for seed in some if seed.name not in settled]
        return found

    async def import_grants(self, seeds: Sequence[Seed], *, replace: bool) -> list[Seeded]:
        """Add SEEDS, all or none.

        Args:
            replace: adopt refresh tokens even where they were adopted before.

        Raises:
            VaultError: one of them cannot be added; then none was.
        """
        for seed in seeds:
            if seed.client is not None and seed.client not in self._clients:
                raise AuthorizationFailed(f"grant {seed.name}: there is no client {seed.client}")
        draw = self._clock.draw()
        kept = [self._kept_alive(seed) for seed in seeds]
        done = await self._vault.apply_seeds(kept, draw, origin="runtime", replace_spent=replace)
        announce_imported(done)
        newest = [one.grant.id for one in done if one.is_newest]
        if self._publish_behind is None or len(newest) <= TOLD_ONE_BY_ONE:
            self._changed([one.grant.name for one in done])
        else:
            self._publish_behind(min(newest) - 1)
            self._changed([one.grant.name for one in done if not one.is_newest])
            self._wake()
        return done

    def _kept_alive(self, seed: Seed) -> Seed:
        """SEED with what its client says of the life of an unused refresh token."""
        client = self._clients.get(seed.client or "")
        idle = None if client is None else client.quirks.refresh_token_idle
        is_new = seed.refresh_token_idle != idle
        return with_fields(seed, refresh_token_idle=idle) if is_new else seed

    async def _change(
        self,
        selected: Selection,
        change: Callable[..., Awaitable[Changes]],
        event: Event,
        **fields: float | None,
    ) -> Changed:
        """Have SELECTED changed page by page, and say so: of a client in one line."""
        for name in selected.names or ():
            await self.grant(name)
        done, last = Changed(0, []), 0
        while page := await change(selected, after=last):
            last = page[-1][1].id
            changed = [after for before, after in page if after != before]
            self._changed([grant.name for grant in changed])
            done.count += len(changed)
            if selected.names is not None:
                done.grants += [after for _, after in page]
                for grant in changed:
                    emit(event, grant=grant.name, client=grant.client, reason="operator", **fields)
        if selected.names is None:
            emit(event, client=selected.client, count=done.count, reason="operator", **fields)
        return done

    def _changed(self, names: Sequence[str]) -> None:
        for name in names:
            self._publish(name)
        if names:
            self._wake()
