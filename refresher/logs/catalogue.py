"""The closed catalogue of what is logged: every event with its level."""

from collections.abc import Mapping
from enum import StrEnum

from refresher.logs.levels import Entry, Level


class Event(StrEnum):
    """Every event: ``subject.past_participle``."""

    DAEMON_STARTED = "daemon.started"
    DAEMON_READY = "daemon.ready"
    DAEMON_STOPPING = "daemon.stopping"
    DAEMON_STOPPED = "daemon.stopped"
    DAEMON_WAITING = "daemon.stood_by"
    DAEMON_FENCED = "daemon.fenced"
    DAEMON_STALLED = "daemon.stalled"
    SETTINGS_RELOADED = "settings.reloaded"
    SETTINGS_REFUSED = "settings.refused"
    SETTINGS_DOUBTED = "settings.doubted"
    SECRET_REPLACED = "secret.replaced"
    SECRET_DOUBTED = "secret.doubted"

    EXCHANGE_SUCCEEDED = "exchange.succeeded"
    EXCHANGE_FAILED = "exchange.failed"
    EXCHANGE_REJECTED = "exchange.rejected"
    EXCHANGE_SUPERSEDED = "exchange.superseded"
    EXCHANGE_RESUMED = "exchange.resumed"
    ANSWER_ORPHANED = "answer.orphaned"
    ANSWER_RESCUED = "answer.rescued"
    ANSWER_KEPT = "answer.kept"
    ANSWER_ADOPTED = "answer.adopted"
    ANSWER_DROPPED = "answer.dropped"
    ANSWER_DOUBTED = "answer.doubted"
    RESCUE_RETAINED = "rescue.retained"
    REPLICA_GONE = "replica.gone"
    REPLICA_TAKEN_OVER = "replica.taken_over"
    COMMITS_RESTORED = "commits.restored"

    GRANT_ADDED = "grant.added"
    GRANT_AUTHORIZED = "grant.authorized"
    GRANT_ACCOUNT_CHANGED = "grant.account_changed"
    GRANT_SEEDED = "grant.seeded"
    GRANT_TOKEN_SET = "grant.token_set"
    GRANT_REMOVED = "grant.removed"
    GRANT_REVOKED = "grant.revoked"
    GRANT_RECOVERED = "grant.recovered"
    GRANT_DEGRADED = "grant.degraded"
    GRANT_EXPIRED = "grant.expired"
    GRANT_DOUBTED = "grant.doubted"
    GRANT_SINGLED_OUT = "grant.singled_out"
    GRANT_LOST = "grant.lost"
    GRANT_PAUSED = "grant.paused"
    GRANT_PAUSE_ORDERED = "grant.pause_ordered"
    GRANT_RESUMED = "grant.resumed"
    GRANT_OVERDUE = "grant.overdue"
    GRANT_ENDING = "grant.end_announced"
    GRANT_SCOPE_CHANGED = "grant.scope_changed"
    GRANT_SKIPPED = "grant.skipped"
    GRANT_SET_ASIDE = "grant.set_aside"
    GRANT_READMITTED = "grant.readmitted"

    REVOCATION_PARKED = "revocation.parked"
    REVOCATION_DONE = "revocation.done"
    REVOCATION_STRANDED = "revocation.stranded"
    REVOCATION_DROPPED = "revocation.dropped"

    CLIENT_CHANGED = "client.changed"
    INTROSPECTION_FAILED = "introspection.failed"

    CLIENT_REJECTED = "client.rejected"
    CLIENT_RECOVERED = "client.recovered"
    DESCRIPTORS_EXHAUSTED = "descriptors.exhausted"
    INCIDENT_OPENED = "incident.opened"
    INCIDENT_CLOSED = "incident.closed"
    ENDPOINT_SUSPENDED = "endpoint.suspended"
    ENDPOINT_RESUMED = "endpoint.resumed"

    METADATA_READ = "metadata.read"
    METADATA_CHANGED = "metadata.changed"
    METADATA_REFUSED = "metadata.refused"
    METADATA_MISSED = "metadata.missed"
    CLIENT_REGISTERED = "client.registered"
    REGISTRATION_ENDING = "registration.end_announced"

    VAULT_OPENED = "vault.opened"
    VAULT_MIGRATED = "vault.migrated"
    VAULT_RESTORED = "vault.restored"
    VAULT_KEY_ADDED = "vault.key_added"
    VAULT_KEY_WAITING = "vault.key_waiting"
    VAULT_KEY_CHANGED = "vault.key_changed"
    VAULT_KEY_MISSING = "vault.key_missing"
    VAULT_RESEALED = "vault.resealed"
    VAULT_UNOPENED = "vault.unopened"
    VAULT_VANISHED = "vault.vanished"
    VAULT_SAVED = "vault.saved"
    VAULT_REFUSED = "vault.refused"
    VAULT_RECOVERED = "vault.recovered"

    REDIS_CONNECTED = "redis.connected"
    REDIS_LOST = "redis.lost"
    REDIS_MOVED = "redis.moved"
    REDIS_DOUBTED = "redis.doubted"
    MIRROR_REBUILT = "mirror.rebuilt"
    MIRROR_REPAIRED = "mirror.repaired"
    FOREIGN_OVERWRITTEN = "mirror.foreign_overwritten"
    EARLIER_LIFE_KEPT = "mirror.earlier_life_kept"

    REQUEST_ACCEPTED = "request.accepted"
    REQUEST_DEFERRED = "request.deferred"
    REQUEST_REFUSED = "request.refused"
    REQUEST_IGNORED = "request.ignored"
    REQUEST_DROPPED = "request.dropped"

    NOTIFICATION_SENT = "notification.sent"
    NOTIFICATION_FAILED = "notification.failed"
    NOTIFICATION_DROPPED = "notification.dropped"

    CLOCK_JUMPED = "clock.jumped"
    TASK_RESTARTED = "task.restarted"
    CONTROL_OPENED = "control.opened"
    LOG_INTERRUPTED = "log.interrupted"
    LIBRARY_COMPLAINED = "library.complained"
    OPERATION_FAILED = "operation.failed"
    SUPERVISOR_LOST = "supervisor.lost"


EVENTS: Mapping[Event, Entry] = {
    Event.DAEMON_STARTED: Entry(Level.INFO, "the daemon began to start"),
    Event.DAEMON_READY: Entry(Level.INFO, "vault open, scheduler turning, control socket open"),
    Event.DAEMON_STOPPING: Entry(Level.INFO, "no new exchange begins; those in flight finish"),
    Event.DAEMON_STOPPED: Entry(Level.INFO, "everything is durable and closed"),
    Event.DAEMON_WAITING: Entry(Level.INFO, "standing by until the vault's holder ends"),
    Event.DAEMON_FENCED: Entry(
        Level.ERROR, "the vault's holder was stopped and did not wake: it was killed, for good"
    ),
    Event.DAEMON_STALLED: Entry(
        Level.ERROR,
        "the scheduler has not turned for ten minutes: the daemon ends itself, to be started "
        "again, once count is 0: answers that are out or in memory alone",
    ),
    Event.SETTINGS_RELOADED: Entry(Level.INFO, "SIGHUP: the new configuration is in force"),
    Event.SETTINGS_REFUSED: Entry(
        Level.ERROR, "the new configuration is broken; the old one stays in force"
    ),
    Event.SETTINGS_DOUBTED: Entry(Level.WARNING, "a setting works but should be looked at"),
    Event.SECRET_REPLACED: Entry(
        Level.INFO, "what setting names was replaced where it is kept; the new one is in use"
    ),
    Event.SECRET_DOUBTED: Entry(
        Level.WARNING, "what setting names cannot be read any more; the last one stays in use"
    ),
    Event.EXCHANGE_SUCCEEDED: Entry(Level.INFO, "the one line of an exchange that brought a token"),
    Event.EXCHANGE_FAILED: Entry(Level.WARNING, "the one line of an exchange to be tried again"),
    Event.EXCHANGE_REJECTED: Entry(
        Level.ERROR, "the one line of an exchange the server finally refused"
    ),
    Event.EXCHANGE_SUPERSEDED: Entry(
        Level.WARNING, "the one line of an exchange whose outcome no longer counts"
    ),
    Event.EXCHANGE_RESUMED: Entry(
        Level.WARNING, "an exchange left open by a dead process is taken up again"
    ),
    Event.ANSWER_ORPHANED: Entry(
        Level.ERROR, "an answer failed the commit rule; it is sealed and kept"
    ),
    Event.ANSWER_RESCUED: Entry(
        Level.ERROR,
        "the vault refuses an answer or hangs; outcome says how well the rescue file keeps it",
    ),
    Event.ANSWER_KEPT: Entry(Level.WARNING, "an answer nobody understood is sealed and kept"),
    Event.ANSWER_ADOPTED: Entry(
        Level.WARNING,
        "an answer kept earlier can be read now: outcome says if it counts",
    ),
    Event.ANSWER_DROPPED: Entry(
        Level.WARNING,
        "an answer kept earlier is forgotten: an operator dropped it, or it was kept as long as "
        "[vault] keep says; see reason",
    ),
    Event.ANSWER_DOUBTED: Entry(Level.WARNING, "a token response was odd; see reason"),
    Event.RESCUE_RETAINED: Entry(
        Level.ERROR,
        "a slot of the rescue file cannot be read or cleared: it stays busy and is tried again",
    ),
    Event.REPLICA_GONE: Entry(
        Level.WARNING, "another daemon on this vault is heard of no longer: dead, hung or cut off"
    ),
    Event.REPLICA_TAKEN_OVER: Entry(
        Level.WARNING, "count exchanges that such a daemon left under way were taken over from it"
    ),
    Event.COMMITS_RESTORED: Entry(
        Level.WARNING, "the vault had lost count commits in a failover: they were written again"
    ),
    Event.GRANT_ADDED: Entry(Level.INFO, "a grant is known from now on"),
    Event.GRANT_AUTHORIZED: Entry(Level.INFO, "a login brought a grant its tokens"),
    Event.GRANT_ACCOUNT_CHANGED: Entry(
        Level.WARNING,
        "a login was made by another account than the one before: consumers get its tokens now",
    ),
    Event.GRANT_SEEDED: Entry(Level.INFO, "a refresh token was adopted from settings or import"),
    Event.GRANT_TOKEN_SET: Entry(Level.INFO, "a static token was set or replaced"),
    Event.GRANT_REVOKED: Entry(
        Level.INFO, "an operator ended a grant's authorization; its tokens go to be revoked"
    ),
    Event.GRANT_REMOVED: Entry(Level.INFO, "a grant and its tokens are gone"),
    Event.GRANT_RECOVERED: Entry(Level.INFO, "a grant is fresh again"),
    Event.GRANT_DEGRADED: Entry(Level.WARNING, "a token nears its end and its refresh fails"),
    Event.GRANT_EXPIRED: Entry(Level.ERROR, "a token ended before its successor came"),
    Event.GRANT_DOUBTED: Entry(
        Level.ERROR,
        "a refresh token that was good before is refused: kept, and asked for again for a while",
    ),
    Event.GRANT_SINGLED_OUT: Entry(
        Level.ERROR, "the server's word against the client was about this grant alone"
    ),
    Event.GRANT_LOST: Entry(
        Level.ERROR,
        "a person must authorize again; see reason and repair, and for how long its refresh token "
        "had lived and had not been used",
    ),
    Event.GRANT_PAUSED: Entry(Level.ERROR, "the grant waits for an operator's decision"),
    Event.GRANT_PAUSE_ORDERED: Entry(
        Level.INFO,
        "an operator has paused a grant, or count of them: nothing is sent until ends_at, or "
        "until he resumes it; reason says what for",
    ),
    Event.GRANT_RESUMED: Entry(
        Level.INFO, "a pause is over, or count of them: an operator ended it, or its end has come"
    ),
    Event.GRANT_OVERDUE: Entry(
        Level.ERROR,
        "a client has grants long due that nobody works on: count of them, the longest named",
    ),
    Event.GRANT_ENDING: Entry(
        Level.WARNING, "a refresh or access token will end for good, in as many days as days says"
    ),
    Event.GRANT_SCOPE_CHANGED: Entry(
        Level.WARNING,
        "a refresh brought a token of another scope: values that are gone, values that are new",
    ),
    Event.GRANT_SKIPPED: Entry(Level.WARNING, "a grant of the settings could not be applied"),
    Event.REVOCATION_PARKED: Entry(
        Level.WARNING,
        "tokens of a revoked grant live on at its server: they came late, or it does not "
        "revoke them now; tried again until ends_at",
    ),
    Event.REVOCATION_DONE: Entry(Level.INFO, "a server has revoked tokens of a revoked grant"),
    Event.REVOCATION_STRANDED: Entry(
        Level.ERROR, "tokens are to be revoked, and their client has left the settings"
    ),
    Event.REVOCATION_DROPPED: Entry(
        Level.ERROR, "tokens of a revoked grant are given up and may live on; see reason"
    ),
    Event.GRANT_SET_ASIDE: Entry(
        Level.ERROR,
        "a grant's row in the vault cannot be read, written or opened; it is tried each minute, "
        "and every other grant goes on",
    ),
    Event.GRANT_READMITTED: Entry(Level.INFO, "the row of a grant set aside is sound again"),
    Event.CLIENT_CHANGED: Entry(
        Level.INFO, "a reload has brought a client, changed it or taken it away: see outcome"
    ),
    Event.INTROSPECTION_FAILED: Entry(
        Level.WARNING,
        "a server was asked when a token ends and does not tell: the life that is assumed counts; "
        "told once until it does",
    ),
    Event.CLIENT_REJECTED: Entry(
        Level.ERROR, "the server refuses the client itself; all its grants wait"
    ),
    Event.CLIENT_RECOVERED: Entry(Level.INFO, "the client is accepted again"),
    Event.DESCRIPTORS_EXHAUSTED: Entry(
        Level.ERROR, "this process has no file descriptor left: no request can leave"
    ),
    Event.INCIDENT_OPENED: Entry(
        Level.ERROR,
        "a server refuses several grants that it served before: count of them, since when",
    ),
    Event.INCIDENT_CLOSED: Entry(
        Level.INFO, "none of a client's grants is doubted any more: count is the most there were"
    ),
    Event.ENDPOINT_SUSPENDED: Entry(
        Level.WARNING, "no requests to this endpoint for a while: overload or Retry-After"
    ),
    Event.ENDPOINT_RESUMED: Entry(Level.INFO, "the endpoint answers again"),
    Event.METADATA_READ: Entry(
        Level.INFO, "the endpoints of a client are those that the metadata of server tell"
    ),
    Event.METADATA_CHANGED: Entry(
        Level.WARNING, "the metadata of a server tell other endpoints on the same hosts; in use"
    ),
    Event.METADATA_REFUSED: Entry(
        Level.ERROR,
        "the metadata of a server move endpoints to another host: nothing is sent there, the "
        "earlier ones stay in use; see repair",
    ),
    Event.METADATA_MISSED: Entry(
        Level.WARNING,
        "the metadata of a server cannot be had; what was known stays in use, and it is tried "
        "again; see reason",
    ),
    Event.CLIENT_REGISTERED: Entry(
        Level.INFO, "a server has registered a client; ends_at is the end of its secret"
    ),
    Event.REGISTRATION_ENDING: Entry(
        Level.WARNING, "the secret of a registered client ends, or has ended; told once a day"
    ),
    Event.VAULT_OPENED: Entry(Level.INFO, "the vault is open"),
    Event.VAULT_MIGRATED: Entry(
        Level.INFO, "the vault's schema was brought up to date; path of a copy of what it was"
    ),
    Event.VAULT_RESTORED: Entry(
        Level.WARNING,
        "the vault is a copy, or its file was put back to an older one: what rotated since needs a "
        "login; count of grants that may have",
    ),
    Event.VAULT_VANISHED: Entry(
        Level.ERROR,
        "a file of the vault was deleted or replaced under the daemon: nothing is sent any more",
    ),
    Event.VAULT_SAVED: Entry(
        Level.ERROR, "all that was in the vault that vanished is in the copy that path names"
    ),
    Event.VAULT_KEY_ADDED: Entry(Level.INFO, "a new key was written above those of the key file"),
    Event.VAULT_KEY_WAITING: Entry(Level.WARNING, "a new key does not seal until a replica has it"),
    Event.VAULT_KEY_CHANGED: Entry(Level.INFO, "another key seals from now on"),
    Event.VAULT_KEY_MISSING: Entry(Level.ERROR, "the key file lacks the key that seals the vault"),
    Event.VAULT_RESEALED: Entry(Level.INFO, "count values were brought under the key that seals"),
    Event.VAULT_UNOPENED: Entry(Level.ERROR, "no key in the key file opens count sealed values"),
    Event.VAULT_REFUSED: Entry(
        Level.ERROR, "the vault refuses or does not answer: nothing is sent until it does"
    ),
    Event.VAULT_RECOVERED: Entry(Level.INFO, "the vault can be written again"),
    Event.REDIS_CONNECTED: Entry(Level.INFO, "Redis answers; everything is published again"),
    Event.REDIS_LOST: Entry(
        Level.ERROR, "Redis cannot be used; refreshing goes on, publication waits"
    ),
    Event.REDIS_MOVED: Entry(
        Level.WARNING, "Other servers take the writes now; everything is published there"
    ),
    Event.REDIS_DOUBTED: Entry(
        Level.WARNING, "Redis may lose keys, or forbids something: reason says what"
    ),
    Event.MIRROR_REBUILT: Entry(
        Level.INFO, "Redis shows every current token again, or (see reason) all that were added"
    ),
    Event.MIRROR_REPAIRED: Entry(Level.WARNING, "Redis had lost or changed keys; they are back"),
    Event.FOREIGN_OVERWRITTEN: Entry(
        Level.WARNING, "Redis held a version the vault never made; overwritten"
    ),
    Event.EARLIER_LIFE_KEPT: Entry(
        Level.WARNING,
        "a token of before the vault was lost or restored is left until its end or a newer one",
    ),
    Event.REQUEST_ACCEPTED: Entry(Level.INFO, "a refresh was asked for and is due now"),
    Event.REQUEST_DEFERRED: Entry(
        Level.INFO, "a consumer asked too soon after the last time: refreshed at due_at"
    ),
    Event.REQUEST_REFUSED: Entry(
        Level.WARNING,
        "a consumer rejected a token that no request can replace now: outcome says why, due_at "
        "until when",
    ),
    Event.REQUEST_IGNORED: Entry(Level.DEBUG, "a request for a refresh changed nothing"),
    Event.REQUEST_DROPPED: Entry(
        Level.WARNING,
        "what consumers wrote cannot be a request and was thrown away: count of them, reason; at "
        "most one line a minute for each reason",
    ),
    Event.NOTIFICATION_SENT: Entry(Level.INFO, "what setting names has taken a notification"),
    Event.NOTIFICATION_FAILED: Entry(
        Level.WARNING,
        "what setting names takes no notification: kept, and tried again; told once until it does",
    ),
    Event.NOTIFICATION_DROPPED: Entry(
        Level.ERROR, "as many notifications as count says are given up: nobody was told; see reason"
    ),
    Event.CLOCK_JUMPED: Entry(
        Level.WARNING,
        "the wall clock was set, or the machine slept; reason: how a step since the last run is "
        "known",
    ),
    Event.TASK_RESTARTED: Entry(Level.ERROR, "a bug ended a task; it was started again"),
    Event.LOG_INTERRUPTED: Entry(
        Level.WARNING,
        "nobody read the log for a while: as many lines as count says were dropped before this one",
    ),
    Event.LIBRARY_COMPLAINED: Entry(
        Level.WARNING,
        "Python or a library (name) said something of its own; count is how often since told last",
    ),
    Event.CONTROL_OPENED: Entry(Level.INFO, "commands reach the daemon here"),
    Event.OPERATION_FAILED: Entry(Level.ERROR, "a bug ended what a command asked for"),
    Event.SUPERVISOR_LOST: Entry(Level.WARNING, "systemd cannot be told how the daemon is"),
}
