"""What the server's log, the daemons' logs and the consumers prove."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from refresher.sandbox.exchange_log import ExchangeRecord, overlaps

RECOVERS = 5.0
"""Seconds after a fault in which a replica counts as not yet well."""

COMMITTED_WITHIN = 2.0
"""Seconds from an answer to its commit: one who is killed then may have lost it."""

KILLED_WITHIN = 1.0
"""Seconds from the decision to kill a process to its end, on a machine that is busy."""


@dataclass(frozen=True)
class Trouble:
    """What happened to one replica; instants in unix seconds."""

    replica: str
    kind: str
    began: float
    ended: float


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What one run showed."""

    faults: Mapping[str, int]
    exchanges: int
    reads: int
    lost: Mapping[str, int]
    """Grants by the rotation of their server."""
    rotation_lost: int
    """Grants under ``strict`` whose answer died with its process, and that are told as that."""
    not_kept: int
    """Grants that are neither lost nor refreshed once everything is well again."""
    double_exchanges: int
    """Of one grant at once, from processes that lived, ran and were connected."""
    stale_reads: int
    expired_reads: int
    longest_gap_s: Mapping[str, float]
    """In which a token could not be read, by rotation."""
    kills_in_exchanges: int
    taken_up_s: float
    """From a kill -9 to the first exchange of a grant that it interrupted; the slowest."""
    all_taken_up_s: float
    """And to that of the last of them."""
    events: Mapping[str, int]
    """What the daemons warned of."""

    @property
    def holds(self) -> bool:
        """Whether no guarantee was violated."""
        return not (
            any(self.lost.values())
            or self.not_kept
            or self.double_exchanges
            or self.stale_reads
            or self.expired_reads
        )


def doubles(
    log: Iterable[ExchangeRecord], troubles: Sequence[Trouble]
) -> list[tuple[ExchangeRecord, ExchangeRecord]]:
    """Overlapping pairs of which both replicas were well."""

    def was_well(record: ExchangeRecord, since: float, until: float) -> bool:
        return not any(
            one.replica == record.user_agent and one.began <= until and one.ended + RECOVERS > since
            for one in troubles
        )

    return [
        pair
        for pair in overlaps(log)
        if all(was_well(record, pair[0].arrived_at, pair[1].arrived_at) for record in pair)
    ]


def died_with(log: Iterable[ExchangeRecord], troubles: Sequence[Trouble]) -> set[str]:
    """Families of which an answer may have died with the process that was to keep it."""
    kills = [one for one in troubles if one.kind == "replica killed"]
    return {
        record.family_id
        for record in log
        for one in kills
        if record.family_id is not None
        and record.generation_issued is not None
        and record.user_agent == one.replica
        and record.arrived_at - KILLED_WITHIN <= one.began <= record.ended_at + COMMITTED_WITHIN
    }


def taken_up(log: Sequence[ExchangeRecord], troubles: Sequence[Trouble]) -> list[list[float]]:
    """For each kill in exchanges the seconds until those grants were exchanged again."""
    found = []
    for one in troubles:
        if one.kind != "replica killed":
            continue
        hit = {
            record.family_id
            for record in log
            if record.user_agent == one.replica
            and record.arrived_at <= one.began < record.ended_at
            and record.family_id is not None
        }
        again: dict[str, float] = {}
        for record in log:
            if record.family_id in hit and record.arrived_at > one.began:
                again.setdefault(record.family_id, record.arrived_at - one.began)
        if again:
            found.append(sorted(again.values()))
    return found
