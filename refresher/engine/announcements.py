"""Says once, where people look, that a grant is known, has tokens, or changed its state."""

from refresher.domain.grants import Answer, Grant, GrantState
from refresher.domain.pauses import OVER, is_ordered
from refresher.domain.reasons import Reason
from refresher.domain.repairs import INCIDENT, repair
from refresher.logs import Event, emit
from refresher.vault.incidents import Incident
from refresher.vault.origin import Restored
from refresher.vault.seeds import Seeded, SeedResult

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
        _tell(event, after)
    elif after.state is GrantState.FRESH and not (
        before.state is GrantState.PENDING or is_ordered(before)
    ):
        emit(Event.GRANT_RECOVERED, grant=after.name, client=after.client)


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


def _tell(event: Event, grant: Grant) -> None:
    """Log EVENT with all that a person wants to know of GRANT first."""
    emit(
        event,
        grant=grant.name,
        client=grant.client,
        reason=grant.reason,
        expires_at=grant.expires_at,
        next_attempt_at=grant.due_at,
        repair=repair(grant),
    )


def announce_restored(restored: Restored) -> None:
    """Say once that the vault is an older one, and what that may have cost."""
    emit(
        Event.VAULT_RESTORED,
        copied_at=restored.copied_at,
        reason=restored.reason,
        count=restored.count,
    )
