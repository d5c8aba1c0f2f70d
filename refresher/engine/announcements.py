"""Says once, where people look, that a grant is known, has tokens, or changed its state."""

from collections import Counter
from collections.abc import Sequence

from refresher.domain.grants import Answer, Claim, Grant, GrantState, TokenSet
from refresher.domain.pauses import OVER, is_ordered
from refresher.domain.reasons import Reason
from refresher.domain.repairs import INCIDENT, new_login_before, repair
from refresher.logs import Event, emit
from refresher.vault.incidents import Incident
from refresher.vault.origin import Restored
from refresher.vault.seeds import Seeded, SeedResult

TOLD_ONE_BY_ONE = 100
"""New grants of one request of which each has a line of its own; more have one together."""

_EVENTS = {
    GrantState.DEGRADED: Event.GRANT_DEGRADED,
    GrantState.EXPIRED: Event.GRANT_EXPIRED,
    GrantState.REAUTHORIZATION_REQUIRED: Event.GRANT_LOST,
    GrantState.PAUSED: Event.GRANT_PAUSED,
}

_ANSWERS = {
    Answer.ACCEPTED: Event.REQUEST_ACCEPTED,
    Answer.DEFERRED: Event.REQUEST_DEFERRED,
}


def announce(before: Grant, after: Grant) -> None:
    """Log the change from BEFORE to AFTER, if the state changed or a doubt began."""
    if after.refused_at is not None and before.refused_at is None:
        _tell(Event.GRANT_DOUBTED, after)
    if before.state is after.state or is_ordered(after):
        return
    if is_ordered(before):
        emit(Event.GRANT_RESUMED, grant=after.name, client=after.client, reason=OVER)
    event = _EVENTS.get(after.state)
    if event is not None:
        _tell(event, after, **(_life(after) if event is Event.GRANT_LOST else {}))
    elif after.state is GrantState.FRESH and not (
        before.state is GrantState.PENDING or is_ordered(before)
    ):
        emit(Event.GRANT_RECOVERED, grant=after.name, client=after.client, was=before.state.value)


def announce_answer(grant: Grant, reason: str) -> None:
    """Say what becomes of consumers' word that the access token of GRANT was rejected.

    Args:
        reason: why it was, in a consumer's word.
    """
    rejection = grant.rejection
    assert rejection is not None
    event = _ANSWERS.get(rejection.answer, Event.REQUEST_REFUSED)
    emit(
        event,
        grant=grant.name,
        client=grant.client,
        version=rejection.version,
        reason=reason,
        outcome=rejection.answer.value,
        due_at=rejection.until,
    )


def announce_incident(incident: Incident, *, is_over: bool = False) -> None:
    """Say once that a server refuses several grants that it served before, and its end."""
    emit(
        Event.INCIDENT_CLOSED if is_over else Event.INCIDENT_OPENED,
        client=incident.client,
        count=incident.count,
        since=incident.since,
        repair=None if is_over else INCIDENT,
    )


def announce_singled_out(grant: Grant) -> None:
    """Say that a word about the client was this grant's alone."""
    _tell(Event.GRANT_SINGLED_OUT, grant)


def announce_ending(grant: Grant) -> None:
    """Say that the refresh token of GRANT ends soon, and that only a person can help that."""
    emit(
        Event.GRANT_ENDING,
        grant=grant.name,
        client=grant.client,
        reason="refresh_token_ends",
        days=grant.end_announced,
        expires_at=grant.refresh_token_expires_at,
        repair=new_login_before(grant),
    )


def announce_scope(claim: Claim, tokens: TokenSet | None) -> None:
    """Say that the TOKENS that the exchange of CLAIM brought have another scope than those before.

    It has been published with them.
    """
    if tokens is None or tokens.scope is None or not claim.granted_scope:
        return  # the server has not said one of both (RFC 6749 5.1)
    before, after = set(claim.granted_scope.split()), set(tokens.scope.split())
    if before != after:
        emit(
            Event.GRANT_SCOPE_CHANGED,
            grant=claim.grant.name,
            client=claim.grant.client,
            gone=sorted(before - after),
            new=sorted(after - before),
        )


def announce_tokens_without_refresh(grant: Grant) -> None:
    """Say when a person will be needed, where nothing can be refreshed."""
    if grant.status_reason == Reason.NO_REFRESH_TOKEN:
        emit(
            Event.GRANT_ENDING,
            grant=grant.name,
            client=grant.client,
            reason=Reason.NO_REFRESH_TOKEN,
            expires_at=grant.expires_at,
            repair=repair(grant),
        )


def announce_seeded(seeded: Seeded, *, origin: str) -> None:
    """Say what a seed of ORIGIN (settings, import, login) brought."""
    grant = seeded.grant
    if seeded.result is SeedResult.ADDED:
        emit(Event.GRANT_ADDED, grant=grant.name, client=grant.client, origin=origin)
    if seeded.result is SeedResult.ADOPTED:
        emit(Event.GRANT_SEEDED, grant=grant.name, client=grant.client, origin=origin)


def announce_imported(done: Sequence[Seeded]) -> None:
    """Say what an import brought: of many grants that nobody knew, in one line for a client."""
    added = Counter(one.grant.client for one in done if one.result is SeedResult.ADDED)
    are_many = added.total() > TOLD_ONE_BY_ONE
    for client, count in added.items() if are_many else ():
        emit(Event.GRANT_ADDED, client=client, count=count, origin="import")
    for seeded in done:
        if not are_many or seeded.result is not SeedResult.ADDED:
            announce_seeded(seeded, origin="import")


def _life(lost: Grant) -> dict[str, int]:
    """How old the refresh token of LOST was, and for how long its server had not taken it."""
    obtained_at = lost.refresh_token_obtained_at
    if not lost.is_renewable or obtained_at is None:
        return {}
    used_at = obtained_at if lost.served_at is None else max(lost.served_at, obtained_at)
    return {
        "refresh_token_age_s": round(lost.since - obtained_at),
        "refresh_token_idle_s": round(lost.since - used_at),
    }


def _tell(event: Event, grant: Grant, **more: int) -> None:
    """Log EVENT with all that a person wants to know of GRANT first."""
    emit(
        event,
        grant=grant.name,
        client=grant.client,
        reason=grant.reason,
        expires_at=grant.expires_at,
        next_attempt_at=grant.due_at,
        repair=repair(grant),
        **more,
    )


def announce_restored(restored: Restored) -> None:
    """Say once that the vault is an older one, and what that may have cost."""
    emit(
        Event.VAULT_RESTORED,
        copied_at=restored.copied_at,
        reason=restored.reason,
        count=restored.count,
    )
