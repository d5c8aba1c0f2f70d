"""The closed catalogue of metrics: every one with its kind, its labels and what it means.

What each means is the text that ``/metrics`` gives as help and the table of the page for
operators. Labels are bounded: clients are those of the settings, everything else is of a
closed list; no label has the name of a grant.
"""

from dataclasses import dataclass
from enum import StrEnum

OTHER_CLIENT = "(other)"
"""Label of clients that are not in the settings; no client can be called like that."""

NO_CLIENT = "(none)"
"""Label of static tokens."""


class Kind(StrEnum):
    """How a metric moves."""

    GAUGE = "gauge"
    """Read at the time of the scrape."""
    COUNTER = "counter"
    """Counted since the daemon started; its samples end in ``_total``."""
    HISTOGRAM = "histogram"
    """Durations since the daemon started, by their length."""
    INFO = "info"
    """What stays as it is; its sample ends in ``_info`` and is always 1."""


@dataclass(frozen=True, slots=True)
class Metric:
    """What a catalogue entry promises."""

    name: str
    """As OpenMetrics names the family: with its unit, without ``_total`` and ``_info``."""
    kind: Kind
    meaning: str
    labels: tuple[str, ...] = ()

    @property
    def sample(self) -> str:
        """The name that queries begin with."""
        endings = {Kind.COUNTER: "_total", Kind.INFO: "_info"}
        return self.name + endings.get(self.kind, "")


GRANTS = Metric(
    "refresher_grants",
    Kind.GAUGE,
    "Grants by client and state; client (none): a static token, (other): not in the settings.",
    ("client", "state"),
)
TOKEN_END = Metric(
    "refresher_access_token_soonest_end_seconds",
    Kind.GAUGE,
    "Seconds until the first access token ends of those that are refreshed.",
)
TOKENS_ENDING = Metric(
    "refresher_access_tokens_ending",
    Kind.GAUGE,
    "Access tokens that are refreshed and end within so long; each window holds the shorter ones.",
    ("within",),
)
REFRESH_TOKEN_END = Metric(
    "refresher_refresh_token_soonest_end_seconds",
    Kind.GAUGE,
    "Seconds until the first refresh token ends whose end is known.",
)
REFRESH_TOKENS_ENDING = Metric(
    "refresher_refresh_tokens_ending",
    Kind.GAUGE,
    "Refresh tokens whose known end comes within so long: their grants need a login by then.",
    ("within",),
)
DUE = Metric(
    "refresher_grants_due",
    Kind.GAUGE,
    "Grants that are due and whose exchange has not begun.",
    ("client",),
)
DUE_LAG = Metric(
    "refresher_due_lag_seconds",
    Kind.GAUGE,
    "Seconds that the first of them has been due for; 0 without one.",
    ("client",),
)
INCIDENT = Metric(
    "refresher_incident_grants",
    Kind.GAUGE,
    "Grants that were refused at most in the client's open incident; no sample without one.",
    ("client",),
)
SUSPENDED = Metric(
    "refresher_endpoint_suspended",
    Kind.GAUGE,
    "1 while the client's token endpoint is left alone, or tried by one exchange at a time.",
    ("client",),
)
REJECTED = Metric(
    "refresher_client_rejected",
    Kind.GAUGE,
    "1 while the server refuses the client itself.",
    ("client",),
)
IN_FLIGHT = Metric(
    "refresher_exchanges_in_flight", Kind.GAUGE, "Exchanges that are being worked on."
)
WRITABLE = Metric(
    "refresher_vault_writable", Kind.GAUGE, "1 while the vault takes what is written."
)
CONNECTED = Metric("refresher_redis_connected", Kind.GAUGE, "1 while Redis takes publications.")
VAULT_SIZE = Metric(
    "refresher_vault_size_bytes", Kind.GAUGE, "Bytes of the vault's file and its write-ahead log."
)
READ_AGE = Metric(
    "refresher_vault_read_age_seconds",
    Kind.GAUGE,
    "Seconds since the grants were counted that this page tells of.",
)
BUILD = Metric(
    "refresher_build", Kind.INFO, "The version of refresher and of Python.", ("version", "python")
)
EVENTS_TOLD = Metric(
    "refresher_events",
    Kind.COUNTER,
    "Events by name and level, also those below the level that is logged.",
    ("event", "level"),
)
EXCHANGES = Metric(
    "refresher_exchanges",
    Kind.COUNTER,
    "Exchanges by client and outcome, which is that of their line in the log.",
    ("client", "outcome"),
)
EXCHANGE_DURATION = Metric(
    "refresher_exchange_duration_seconds",
    Kind.HISTOGRAM,
    "Seconds from the sending of a token request to its answer.",
    ("client",),
)
COMMIT_DURATION = Metric(
    "refresher_commit_duration_seconds",
    Kind.HISTOGRAM,
    "Seconds from an answer to its being durable in the vault.",
)
PUBLICATION_DELAY = Metric(
    "refresher_publication_delay_seconds",
    Kind.HISTOGRAM,
    "Seconds from the commit of what changed to its being readable in Redis.",
)
REJECTIONS = Metric(
    "refresher_consumer_rejections",
    Kind.COUNTER,
    "Consumers' words that a token was rejected, by what came of them.",
    ("outcome",),
)
REPAIRS = Metric(
    "refresher_mirror_repairs",
    Kind.COUNTER,
    "Keys of Redis that were lost or changed, and put back.",
)
LOOP_LAG = Metric(
    "refresher_event_loop_lag_seconds",
    Kind.HISTOGRAM,
    "Seconds that the event loop came late to what was due, looked at once a second.",
)

METRICS = (
    *(GRANTS, TOKEN_END, TOKENS_ENDING, REFRESH_TOKEN_END, REFRESH_TOKENS_ENDING, DUE, DUE_LAG),
    *(EXCHANGES, EXCHANGE_DURATION, COMMIT_DURATION, PUBLICATION_DELAY, IN_FLIGHT),
    *(INCIDENT, SUSPENDED, REJECTED, REJECTIONS, REPAIRS, EVENTS_TOLD),
    *(WRITABLE, CONNECTED, VAULT_SIZE, READ_AGE, LOOP_LAG, BUILD),
)
"""Every metric of ours. prometheus-client adds those of the process."""

PROCESS_METRICS = (
    "process_cpu_seconds",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_virtual_memory_bytes",
)
"""Families that prometheus-client brings for the process."""
