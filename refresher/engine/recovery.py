"""What a new process takes up from a dead one, before the first claim.

It is no second protocol: leases of the dead end, answers in the rescue file go through
the same commit rule, and an exchange left open gets the rule of its unknown outcome.
"""

from collections.abc import Mapping

from refresher.clock import Clock
from refresher.domain.clients import Client
from refresher.domain.transition import resume_unresolved
from refresher.engine.durability import name_in, read_rescue_record
from refresher.logs import Event, emit
from refresher.vault.vault import Vault


async def recover(vault: Vault, clients: Mapping[str, Client], clock: Clock) -> None:
    """Bring the vault to where scheduling can go on.

    Raises:
        VaultUnavailable: the vault refuses; nothing has been sent.
    """
    await _adopt_rescued(vault, clock)
    now = clock.now()
    open_exchanges = await vault.release_leases(now)
    resumed = []
    for grant in open_exchanges:
        client = clients.get(grant.client or "")
        if grant.intent is None or client is None:
            continue
        after = resume_unresolved(grant, client, now, clock.draw())
        resumed.append(after)
        emit(
            Event.EXCHANGE_RESUMED,
            grant=grant.name,
            client=grant.client,
            sequence=grant.intent.sequence,
            attempts=grant.intent.attempts,
            next_attempt_at=after.due_at,
            state=after.state.value,
        )
    await vault.reschedule(resumed, now)


async def _adopt_rescued(vault: Vault, clock: Clock) -> None:
    """Commit the answers that a process died with in its rescue file."""
    for slot, record in list(vault.rescued.items()):
        # A removed grant has a row too, and what came for it is kept as an orphan.
        verdict = "unknown grant"
        for row in await vault.read([name_in(record)]):
            claim, change = read_rescue_record(record, row.grant)
            committed = await vault.commit(claim, change, clock.now())
            verdict = committed.verdict.value
        vault.forget_rescued(slot)
        del vault.rescued[slot]
        emit(Event.ANSWER_RESCUED, grant=name_in(record), outcome=verdict)
