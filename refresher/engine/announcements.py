"""Says once, where people look, that a grant is known, has tokens, or changed its state."""

from refresher.domain.grants import Grant, GrantState, Reason, repair
from refresher.logs import Event, emit
from refresher.vault.seeds import Seeded, SeedResult

_EVENTS = {
    GrantState.DEGRADED: Event.GRANT_DEGRADED,
    GrantState.EXPIRED: Event.GRANT_EXPIRED,
    GrantState.REAUTHORIZATION_REQUIRED: Event.GRANT_LOST,
    GrantState.PAUSED: Event.GRANT_PAUSED,
}


def announce(before: Grant, after: Grant) -> None:
    """Log the change from BEFORE to AFTER, if the state changed."""
    if before.state is after.state:
        return
    event = _EVENTS.get(after.state)
    if event is not None:
        emit(
            event,
            grant=after.name,
            client=after.client,
            reason=after.reason,
            expires_at=after.expires_at,
            next_attempt_at=after.due_at,
            repair=repair(after),
        )
    elif after.state is GrantState.FRESH and before.state is not GrantState.PENDING:
        emit(Event.GRANT_RECOVERED, grant=after.name, client=after.client)


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
