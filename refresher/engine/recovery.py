"""What a new process takes up from a dead one, before the first claim.

It is no second protocol: leases of the dead end, answers in the rescue file and answers
that only this version understands go through the same commit rule, and an exchange left
open gets the rule of its unknown outcome.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from refresher.acting import DAEMON, acting
from refresher.clock import Clock
from refresher.domain import leases
from refresher.domain.adoption import Attempt, Transition
from refresher.domain.clients import Client
from refresher.domain.commit_rule import Verdict
from refresher.domain.grants import Claim, Grant
from refresher.domain.leases import Holder, Lease
from refresher.domain.outcomes import Refreshed, RefreshTokenOnly
from refresher.domain.quirks import Rotation, RotationProfile
from refresher.domain.renewal import FORGOTTEN
from refresher.domain.secret import Secret
from refresher.domain.self_renewing import as_it_acts
from refresher.domain.transition import resume_unresolved, transition
from refresher.domain.unread import KeptAnswer
from refresher.engine.announcements import announce_restored
from refresher.engine.records import Rescued, read_record
from refresher.engine.supervision import report_bug
from refresher.errors import DuplicateRefreshToken, GrantSetAside, UnknownGrant
from refresher.logs import Event, emit
from refresher.oauth.responses import classify
from refresher.vault.clock_steps import Step
from refresher.vault.leases import TakenOver
from refresher.vault.vault import Vault


async def recover(vault: Vault, clients: Mapping[str, Client], clock: Clock) -> None:
    """Bring the vault to where scheduling can go on; nobody has ordered what that takes.

    Raises:
        VaultUnavailable: the vault refuses; nothing has been sent.
    """
    with acting(DAEMON):
        await _recover(vault, clients, clock)


async def _recover(vault: Vault, clients: Mapping[str, Client], clock: Clock) -> None:
    await vault.leases.beat()
    step = Step(0.0, is_measured=False)
    if not vault.leases.is_shared:  # else all that is stored is of the database's clock
        step = await vault.steps.follow_unseen()
    if step.offset:
        reason = "measured" if step.is_measured else "assumed"
        emit(Event.CLOCK_JUMPED, offset_s=round(step.offset, 1), reason=reason)
    # Only then is anything dated later than the mark. To look for it means to look through
    # all grants, which a start after an orderly end, or a crash, has no reason to.
    may_be_misdated = step.leaves_misdated or bool(vault.rescued.left)
    if may_be_misdated:
        await vault.steps.hasten_misdated()
    if (restored := await vault.origin.learn(step.marked_at)) is not None:
        announce_restored(restored)
    await _adopt_rescued(vault)
    await _resume_open(vault, clients, clock)
    await _read_again(vault, clients, clock)
    if may_be_misdated:
        await vault.steps.hasten_misdated()


async def readmit(
    vault: Vault, clients: Mapping[str, Client], clock: Clock, names: Sequence[str]
) -> None:
    """Take up what was left of the grants NAMES, which were set aside and are sound again."""
    await _adopt_rescued(vault, names)
    await _resume_open(vault, clients, clock, only=names)


async def _adopt_rescued(vault: Vault, only: Sequence[str] | None = None) -> None:
    """Commit the answers that are left in the rescue file."""
    for record in list(vault.rescued.left.values()):
        rescued = read_record(record)
        if only is not None and rescued.name not in only:
            continue
        # A removed grant has a row too, and what came for it is kept as an orphan.
        rows = await vault.read([rescued.name])
        if not rows and vault.may_be_set_aside(rescued.name):
            continue  # it waits for its row to be mended
        stored = rows[0].grant if rows else rescued.stray
        try:
            verdict = await _commit_rescued(vault, rescued, stored)
        except GrantSetAside:
            continue
        vault.rescued.forget(record)
        if verdict is not Verdict.ALREADY_APPLIED:
            emit(Event.ANSWER_RESCUED, grant=rescued.name, outcome=verdict.value)


async def _commit_rescued(vault: Vault, rescued: Rescued, stored: Grant) -> Verdict:
    """Let the commit rule decide; what it does not let count is sealed and kept."""
    claim, change = rescued.on(stored)
    if rescued.intent is not None:
        return (await vault.commit(claim, change)).verdict
    assert change.tokens is not None
    authorization = (rescued.uid, rescued.authorization_serial)
    if authorization == (stored.uid, stored.authorization_serial):
        with suppress(UnknownGrant, DuplicateRefreshToken):
            await vault.authorize(rescued.name, change, rescued.consent)
            return Verdict.APPLY
    # The process may have died after the commit of this very login.
    is_next = authorization == (stored.uid, stored.authorization_serial - 1)
    if is_next and vault.is_refresh_token_of(stored, change.tokens.refresh_token):
        return Verdict.ALREADY_APPLIED
    await vault.kept.keep_orphan(claim.grant, change.tokens)
    return Verdict.SUPERSEDED


async def _resume_open(
    vault: Vault, clients: Mapping[str, Client], clock: Clock, only: Sequence[str] | None = None
) -> None:
    """End the leases of the dead; schedule what they left open."""
    if vault.leases.is_shared:
        await take_over(vault, clients, clock, only)
        return
    for before, after in await vault.leases.release(_resuming(clients, clock), only=only):
        _tell_resumed(before, after)


async def take_over(
    vault: Vault, clients: Mapping[str, Client], clock: Clock, only: Sequence[str] | None = None
) -> TakenOver | None:
    """The same where others share the vault, of whom nobody may know whether they are dead.

    None where it is too early to say (``Leases.take_over``).

    Raises:
        VaultUnavailable: the vault refuses.
    """

    def judge(grant: Grant, lease: Lease, holder: Holder, now: float) -> bool:
        client = clients.get(grant.client or "")
        if client is None:  # of a replica with other settings: nobody knows what it may cost
            rotation = Rotation(RotationProfile.UNKNOWN)
        else:
            rotation = as_it_acts(client, grant).quirks.rotation
        return leases.may_take_over(grant, rotation, lease, holder, now)

    done = await vault.leases.take_over(judge, _resuming(clients, clock), only=only)
    for taken in () if done is None else done.exchanges:
        if taken.after is not None:
            _tell_resumed(taken.before, taken.after)
    return done


async def offer_again(vault: Vault, records: Iterable[bytes]) -> list[str]:
    """Commit RECORDS once more, which the vault had taken; the grants of those it had lost.

    A database that fails over to another server may lose the last that it has acknowledged.

    Raises:
        VaultUnavailable: the vault refuses.
    """
    restored: list[str] = []
    for record in records:
        kept = read_record(record)
        rows = await vault.read([kept.name])
        if not rows or not kept.is_lost_in(rows[0].grant):
            continue
        with suppress(GrantSetAside):
            verdict = await _commit_rescued(vault, kept, rows[0].grant)
            restored += [kept.name] if verdict is Verdict.APPLY else []
    return restored


def _resuming(clients: Mapping[str, Client], clock: Clock) -> Callable[[Grant], Grant | None]:
    """What becomes of an exchange that was left open: the rule of its unknown outcome."""
    now = clock.now()

    def resume(grant: Grant) -> Grant | None:
        client = clients.get(grant.client or "")
        if grant.intent is None or client is None:
            return None
        return resume_unresolved(grant, client, now, clock.draw())

    return resume


def _tell_resumed(before: Grant, after: Grant) -> None:
    assert before.intent is not None
    emit(
        Event.EXCHANGE_RESUMED,
        grant=before.name,
        client=before.client,
        sequence=before.intent.sequence,
        attempts=before.intent.attempts,
        next_attempt_at=after.due_at,
        state=after.state.value,
    )


async def _read_again(vault: Vault, clients: Mapping[str, Client], clock: Clock) -> None:
    """Adopt the answers that an earlier version could not read and this one can."""
    for kept in await vault.kept.unreadable():
        await read_again(vault, clients, clock, kept)


async def read_again(
    vault: Vault, clients: Mapping[str, Client], clock: Clock, kept: KeptAnswer
) -> Verdict | None:
    """Adopt KEPT if it can be read now; what the commit rule said, None if it still cannot."""
    for row in await vault.read([kept.name]):
        client = clients.get(row.grant.client or "")
        if client is None:
            continue
        change = _understood(kept, row.grant, client, vault.fingerprint, clock)
        if change is None:
            continue
        verdict = (await vault.commit(*change)).verdict
        await vault.kept.settle(kept, verdict.value)
        emit(
            Event.ANSWER_ADOPTED,
            grant=kept.name,
            sequence=kept.intent.sequence,
            outcome=verdict.value,
        )
        return verdict
    return None


def _understood(
    kept: KeptAnswer,
    stored: Grant,
    client: Client,
    fingerprint: Callable[[Secret], bytes],
    clock: Clock,
) -> tuple[Claim, Transition] | None:
    """What KEPT brings the grant as it is STORED now; None when it is still not understood.

    An answer that only repeats the refresh token it was asked with brings nothing.
    """
    answer = kept.answer
    claimed = replace(
        stored,
        uid=kept.uid,
        authorization_serial=kept.authorization_serial,
        intent=kept.intent,
    )
    claim = Claim(grant=claimed, renewal=FORGOTTEN, access_token=None)
    attempt = Attempt(sent_at=answer.sent_at, ended_at=clock.now(), draw=clock.draw())
    try:
        outcome = classify(answer.status, {}, answer.body, client, answer.sent_at)
        if not isinstance(outcome, Refreshed | RefreshTokenOnly):
            return None
        found = outcome.answer.refresh_token
        if found is not None and fingerprint(found) == kept.intent.presented:
            if isinstance(outcome, RefreshTokenOnly):
                return None
            outcome = replace(outcome, answer=replace(outcome.answer, refresh_token=None))
        return claim, transition(claim, client, outcome, attempt)
    except Exception as error:  # noqa: BLE001  supervision: the bug that kept it is still there
        report_bug("kept answer", error, grant=kept.name)
        return None
