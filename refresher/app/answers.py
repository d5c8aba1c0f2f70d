"""What each operation answers: one type for each, from which its schema in ``openapi.json`` comes.

Instants are unix seconds. None where something is unknown, or there is none.
"""

# Of ``typing`` pydantic would take them from Python 3.12 on only.
from typing import NotRequired

from typing_extensions import TypedDict


class Daemon(TypedDict, total=False):
    """Who answers; empty where no daemon does."""

    version: str
    pid: int
    instance: str


class GrantView(TypedDict):
    """A grant, without its secrets."""

    name: str
    client: str | None
    kind: str
    state: str
    reason: str | None
    since: float
    version: int
    issued_at: float | None
    expires_at: float | None
    next_attempt_at: float | None
    failures: int
    exchange_open: bool
    renewable: bool
    refresh_token: bool
    refresh_token_expires_at: float | None
    scope: list[str]
    authorized_by: str | None
    labels: dict[str, str]
    repair: str | None


class Intent(TypedDict):
    """An exchange that was sent, or was about to be, and is not answered for good."""

    first_sent_at: float
    attempts: int


class Rejection(TypedDict):
    """What consumers said last of the current access token, and what was answered."""

    version: int
    answer: str
    until: float | None


class KeptCount(TypedDict):
    """How many answers of one kind are kept beside a grant."""

    kind: str
    count: int
    first_at: float
    last_at: float


class Terms(TypedDict):
    """What a grant that renews itself asks for, beside its scope."""

    subject: str | None
    subject_token: str
    audience: list[str]
    resource: list[str]


class FullView(GrantView):
    """Everything known of a grant but its secrets, with what its client's settings add."""

    origin: str
    granted_scope: list[str]
    client_scope: list[str]
    authorized_subject: str | None
    refresh_token_obtained_at: float | None
    on_probation: bool
    served_at: float | None
    failing_since: float | None
    fault: str | None
    refused_at: float | None
    refusals: int
    attempts: int
    exchange_out: bool
    claimed_by: str | None
    """The replica that made its last exchange, or makes it."""
    intent: Intent | None
    requested_at: float | None
    asked_for: bool
    rejection: Rejection | None
    kept: list[KeptCount]
    terms: Terms
    rotation: str | None
    on_unknown_outcome: str | None
    client_known: bool


class Summary(TypedDict):
    """How many grants are in each state, and the most urgent ones, in no order."""

    totals: dict[str, int]
    grants: list[GrantView]


class GrantPage(TypedDict):
    """A page of grants by name."""

    grants: list[GrantView]
    next: str | None
    """What ``after`` of the next question has to be; None behind the last page."""


class ParkedView(TypedDict):
    """What has still to be revoked of one grant."""

    name: str
    client: str
    count: int
    since: float
    attempts: int
    next_attempt_at: float
    until: float


class RevocationPage(TypedDict):
    """A page of what has still to be revoked, by grant."""

    revocations: list[ParkedView]
    next: str | None


class Refreshed(TypedDict):
    """Whether a grant is due now; where it cannot be, how it stands."""

    accepted: bool
    stands: NotRequired[GrantView]


class OrderedView(GrantView):
    """A grant that an order was about."""

    exchange_out: bool
    refresh_token_dies_at: float | None


class Ordered(TypedDict):
    """How many grants an order has changed, and those that were named."""

    count: int
    grants: list[OrderedView]


class ExportedLine(TypedDict):
    """A grant as ``import`` takes it, with its secrets."""

    name: str
    client: str | None
    refresh_token: str
    scope: list[str]
    labels: dict[str, str]
    access_token: NotRequired[str]
    expires_at: NotRequired[float | None]
    token_type: NotRequired[str]


class LeftOut(TypedDict):
    """A grant that was not exported."""

    name: str
    why: str
    is_worth_a_try: bool


class Exported(TypedDict):
    """A page of an export; ``last`` is ``after`` of the next one, None behind the last."""

    lines: list[ExportedLine]
    left_out: list[LeftOut]
    last: int | None


class Asked(TypedDict):
    """The grants that are asked for once more, in their order."""

    asked: list[str]


class LoginTarget(TypedDict):
    """What a login would be for; without a redirect URI only a device code brings its tokens."""

    client: str
    redirect_uri: str | None


class LoginBegun(TypedDict):
    """The URL to open, and what an answer to it must carry."""

    login: str
    client: str
    authorization_url: str
    redirect_uri: str
    state: str


class LoggedIn(GrantView):
    """A grant with the tokens of a login."""

    exchange_out: bool
    account_before: str | None


class DeviceBegun(TypedDict):
    """The code to type, and where (RFC 8628 3.2); ``wait`` is when to ask for the first time."""

    login: str
    client: str
    user_code: str
    verification_uri: str
    verification_uri_complete: str | None
    expires_in: float
    wait: float


class Polled(TypedDict):
    """The grant once somebody has consented; before that, in how many seconds to ask again."""

    wait: float | None
    grant: NotRequired[LoggedIn]


class ImportedView(GrantView):
    """What became of one grant of an import."""

    result: str
    exchange_out: bool


class Imported(TypedDict):
    """What became of every grant of an import, in its order."""

    grants: list[ImportedView]


class Removed(TypedDict):
    """A grant that is forgotten."""

    removed: str
    exchange_out: bool


class Revoked(GrantView):
    """A grant whose authorization was ended."""

    revoked: bool
    revocations: list[ParkedView]
    result: str | None
    exchange_out: bool
    exchange_unresolved: bool


class NewKey(TypedDict):
    """The id of a new vault key."""

    key: str


class ReplicaView(TypedDict):
    """One daemon of several on a vault."""

    replica: str
    instance: str


class KeyView(TypedDict):
    """What is sealed under one key."""

    line: int | None
    key: str
    seals: bool
    waits: bool
    """It is to seal, once each of ``unread_by`` has it too."""
    unread_by: list[ReplicaView]
    """Other replicas whose key files do not have it."""
    needed_by: list[ReplicaView]
    """Other replicas that still seal with it, or need it for their rescue files."""
    sealed: dict[str, int]
    first_format: int
    can_go: bool


class KeysView(TypedDict):
    """What is sealed under each key."""

    keys: list[KeyView]
    resealing: bool


class KeptView(TypedDict):
    """An answer that found no grant."""

    id: str
    kind: str
    """``orphan``: tokens that came too late. ``unreadable``: nobody understood it. ``rescued``:
    it waits in the rescue file."""
    grant: str | None
    client: str | None
    received_at: float | None
    refresh_token: bool | None
    """Whether it holds one; None where nobody can tell."""
    opened: bool
    """A key of the key file opens it."""


class KeptPage(TypedDict):
    """A page of kept answers."""

    kept: list[KeptView]
    next: int | None


class Dropped(TypedDict):
    """A kept answer that is forgotten, and the grant that it came for."""

    dropped: str
    grant: str | None


class ChangeView(TypedDict):
    """Who changed what."""

    id: int
    at: float
    by: str
    """``operator``, ``settings``, ``consumer`` or ``daemon``."""
    uid: int | None
    pid: int | None
    what: str
    grant: str | None
    client: str | None
    count: int | None
    detail: str | None


class ChangePage(TypedDict):
    """A page of changes."""

    changes: list[ChangeView]
    next: int | None


class ServerEndpoints(TypedDict):
    """Where a server is asked; None where nothing is known of one."""

    authorization_endpoint: str | None
    token_endpoint: str | None
    revocation_endpoint: str | None
    introspection_endpoint: str | None
    registration_endpoint: str | None
    pushed_authorization_request_endpoint: str | None


class ClientView(TypedDict):
    """What a client has from its server, its id and its secrets aside."""

    client: str
    source: str | None
    """The issuer or resource of the settings; None where only a registration is open."""
    issuer: str | None
    read_at: float | None
    endpoints: ServerEndpoints
    client_authentication: str
    promises_issuer: bool | None
    require_pushed_authorization_requests: bool
    scope: list[str]
    resource: str | None
    registered_at: float | None
    client_secret_expires_at: float | None
    doubts: list[str]
    """What a person should do about it."""


class Clients(TypedDict):
    """The clients that leave something to their servers, by name."""

    clients: list[ClientView]
