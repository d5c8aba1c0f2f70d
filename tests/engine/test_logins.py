"""Logins: from the URL to tokens in the vault, and what is said when they fail."""

from collections.abc import Callable
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import anyio
import pytest

from refresher.acting import acting, operator
from refresher.domain.clients import Client
from refresher.domain.grants import GrantState
from refresher.domain.outcomes import (
    ClientRejected,
    GrantRejected,
    Misconfigured,
    NotSent,
    Outcome,
    OutcomeUnknown,
    RefreshTokenOnly,
    RequestRejected,
    ResourceOwner,
    TokenAnswer,
    Transient,
)
from refresher.domain.secret import Secret
from refresher.engine.logins import LOGIN_MINUTES, Begun
from refresher.errors import (
    AuthorizationFailed,
    UnknownGrant,
    VaultUnavailable,
)
from refresher.logs import Event
from refresher.vault.logins import LOGINS_OPEN
from refresher.vault.vault import Vault
from tests.canary import Canary
from tests.engine.office import REDIRECT, Office, callback, open_office
from tests.engine.world import Call, Lines
from tests.support.clients import changed
from tests.support.waiting import eventually
from tests.vault.world import (
    CRM,
    LIFE,
    NOW,
    access_token,
    answered,
    claim_one,
    finish,
    get,
    holds,
    make_seed,
    orphans,
    refresh,
    set_writable,
    sow,
    static_seed,
)


async def log_in(office: Office, name: str = "acme") -> Begun:
    """Begin and finish a login of NAME."""
    login = await office.logins.begin(name, client_name="crm")
    await office.logins.finish(login.id, callback(login))
    return login


async def test_a_login_brings_a_new_grant_its_tokens(vault: Vault, lines: Lines) -> None:
    office = open_office(vault, answered("at-1", "rt-1"))
    login = await office.logins.begin("acme", client_name="crm")
    parameters = {k: v[0] for k, v in parse_qs(urlsplit(login.request.url).query).items()}
    assert login.request.url.startswith("https://crm.example/authorize?")
    assert (parameters["response_type"], parameters["client_id"]) == ("code", "crm-id")
    assert (parameters["redirect_uri"], parameters["state"]) == (
        REDIRECT,
        login.request.awaited.state.reveal(),
    )
    assert (await get(vault)).state is GrantState.PENDING
    grant = (await office.logins.finish(login.id, callback(login))).grant
    assert grant == await get(vault)
    assert (grant.state, grant.origin) == (GrantState.FRESH, "runtime")
    assert grant.redirect_uri == REDIRECT
    assert holds(vault, grant, "rt-1")
    assert await access_token(vault) == "at-1"
    assert office.endpoint.calls == [
        Call(
            client="crm",
            secret="the-code",
            redirect_uri=REDIRECT,
            code_verifier=login.request.awaited.code_verifier,
            deadline=30.0,
        )
    ]
    assert lines.events() == ["grant.added", "grant.authorized"]
    line = lines.of(Event.GRANT_AUTHORIZED)[0]
    assert (line["grant"], line["version"], line["expires_at"]) == (
        "acme",
        grant.version,
        NOW + LIFE,
    )
    assert set(office.published) == {"acme"}
    assert office.woken


async def test_a_login_replaces_a_dead_authorization(vault: Vault) -> None:
    await sow(vault, make_seed())
    await refresh(vault, GrantRejected(error="invalid_grant", status=400))
    office = open_office(vault, answered("at-1", "rt-1"))
    await log_in(office)
    grant = await get(vault)
    assert (grant.state, grant.reason, grant.authorization_serial) == (GrantState.FRESH, None, 2)


async def test_a_login_asks_for_the_grants_scope(vault: Vault) -> None:
    await sow(vault, make_seed(refresh_token=None, scope=("own",)), make_seed("other", None))
    office = open_office(vault, clients={"crm": changed(CRM, scope=("a", "b"))})
    for name, scope in (("acme", "own"), ("other", "a b"), ("new", "a b")):
        login = await office.logins.begin(name, client_name="crm")
        assert parse_qs(urlsplit(login.request.url).query)["scope"] == [scope]


async def test_a_login_during_an_exchange_voids_its_answer(vault: Vault) -> None:
    await sow(vault, make_seed())
    claim = await claim_one(vault)
    await log_in(open_office(vault, answered("at-login", "rt-login")))
    await finish(vault, claim, answered("at-1", "rt-1"))
    assert holds(vault, await get(vault), "rt-login")
    assert [orphan["refresh_token"] for orphan in await orphans(vault)] == ["rt-1"]


async def test_a_login_without_refresh_token_is_announced(vault: Vault, lines: Lines) -> None:
    await log_in(open_office(vault, answered("at-1", expires_in=None)))
    [line] = lines.of(Event.GRANT_ENDING)
    assert line["reason"] == "no_refresh_token"
    assert "offline_access" in line["repair"]
    assert len(lines.of(Event.ANSWER_DOUBTED)) == 1


FAILURES: list[tuple[Outcome, str]] = [
    (
        GrantRejected(error="invalid_grant", status=400),
        (
            "the server refused the code (invalid_grant): it may have been used or have expired, "
            "or the redirect URI differs from the registered one; start the login again"
        ),
    ),
    (
        ClientRejected(error="invalid_client", status=401),
        (
            "the server refused client crm itself (invalid_client): check client_id and "
            "client_secret, then client_authentication, encode_basic and placement"
        ),
    ),
    (
        Misconfigured(error="invalid_scope", status=400),
        (
            "the server refused the request (invalid_scope): correct the scope of client crm, or "
            "turn send_scope_on_refresh off"
        ),
    ),
    (
        Misconfigured(error="redirect_uri_mismatch", status=400),
        (
            "the server refused the request (redirect_uri_mismatch): register the redirect_uris of "
            "client crm at the server, exactly as they are written"
        ),
    ),
    (
        RequestRejected(error="invalid_request", status=400),
        (
            "the server refused the request (invalid_request): check client_id and client_secret, "
            "then client_authentication, encode_basic and placement, and what else it wants of "
            "client crm: code_parameters, code_headers, pkce or redirect_uri_parameter"
        ),
    ),
    (
        NotSent(reason="dns"),
        (
            "the token endpoint of client crm cannot be reached (dns): check the host name in its "
            "token_endpoint and this machine's name server"
        ),
    ),
    (
        Transient(reason="throttled", status=429),
        "the exchange of the code failed (throttled): start the login again",
    ),
    (
        OutcomeUnknown(reason="timeout"),
        "the exchange of the code failed (timeout): start the login again",
    ),
    (
        RefreshTokenOnly(
            answer=TokenAnswer(access_token=None, refresh_token=Secret("rt-1")), status=200
        ),
        "the server sent no usable access token: start the login again",
    ),
]


@pytest.mark.parametrize(
    ("outcome", "message"), FAILURES, ids=[type(outcome).__name__ for outcome, _ in FAILURES]
)
async def test_every_failed_login_says_why(vault: Vault, outcome: Outcome, message: str) -> None:
    await sow(vault, make_seed())
    before = await get(vault)
    office = open_office(vault, outcome)
    with pytest.raises(AuthorizationFailed) as raised:
        await log_in(office)
    assert str(raised.value) == message
    assert await get(vault) == before


@pytest.mark.parametrize(
    ("pasted", "message"),
    [
        (lambda login: callback(login, state="another"), "the state is not the one"),
        (lambda _: f"{REDIRECT}?error=access_denied", "the state is not the one"),
        (
            lambda login: callback(login, error="access_denied"),
            "refused the access (access_denied)",
        ),
        (lambda _: "", "neither a redirected URL nor a code"),
        (lambda login: callback(login, code=""), "carries no code"),
    ],
    ids=["another state", "no state", "denied", "nothing", "no code"],
)
async def test_a_bad_callback_can_be_pasted_again(
    vault: Vault, pasted: Callable[[Begun], str], message: str
) -> None:
    office = open_office(vault, answered("at-1", "rt-1"))
    login = await office.logins.begin("acme", client_name="crm")
    with pytest.raises(AuthorizationFailed) as raised:
        await office.logins.finish(login.id, pasted(login))
    assert message in str(raised.value)
    assert office.endpoint.calls == []
    await office.logins.finish(login.id, callback(login))


async def test_a_code_is_redeemed_once(vault: Vault) -> None:
    office = open_office(vault, answered("at-1", "rt-1"))
    login = await log_in(office)
    # Whoever was not told asks again.
    again = await office.logins.finish(login.id, callback(login))
    assert again.grant == await get(vault)
    assert len(office.endpoint.calls) == 1


async def test_a_login_times_out(vault: Vault) -> None:
    office = open_office(vault, answered("at-1"))
    login = await office.logins.begin("acme", client_name="crm")
    office.clock.move(LOGIN_MINUTES * 60 + 1)
    with pytest.raises(AuthorizationFailed, match="has timed out"):
        await office.logins.finish(login.id, callback(login))
    with pytest.raises(AuthorizationFailed, match="has timed out"):
        await office.logins.finish("never begun", "code")


async def test_the_oldest_of_many_logins_gives_way(vault: Vault) -> None:
    office = open_office(vault, answered("at-1"))
    logins = [await office.logins.begin("acme", client_name="crm") for _ in range(LOGINS_OPEN + 1)]
    with pytest.raises(AuthorizationFailed, match="has timed out"):
        await office.logins.finish(logins[0].id, callback(logins[0]))
    await office.logins.finish(logins[1].id, callback(logins[1]))


@pytest.mark.parametrize(
    ("client", "message"),
    [
        (changed(CRM, redirect_uris=()), "client crm has no redirect_uris in the settings"),
        (
            changed(CRM, authorization_endpoint=None),
            "client crm has no authorization_endpoint in the settings",
        ),
    ],
    ids=["no redirect URI", "no endpoint"],
)
async def test_a_login_that_cannot_begin_adds_nothing(
    vault: Vault, client: Client, message: str
) -> None:
    office = open_office(vault, clients={"crm": client})
    with pytest.raises(AuthorizationFailed) as raised:
        await office.logins.begin("acme", client_name="crm")
    assert str(raised.value) == message
    assert await vault.grants() == []


async def test_a_login_needs_a_grant_or_a_client(vault: Vault) -> None:
    await sow(vault, static_seed())
    begin = open_office(vault).logins.begin
    with pytest.raises(AuthorizationFailed, match="no grant named acme: name its client with"):
        await begin("acme")
    with pytest.raises(AuthorizationFailed, match="the grant's name is outside the alphabet"):
        await begin("two words", client_name="crm")
    with pytest.raises(AuthorizationFailed, match="no client erp in the settings: there are crm"):
        await begin("acme", client_name="erp")
    with pytest.raises(AuthorizationFailed, match="replace it with `refresher set-token pat`"):
        await begin("pat")


async def test_a_login_is_for_what_the_settings_say(vault: Vault) -> None:
    await sow(vault, make_seed())
    clients = {"crm": changed(CRM, redirect_uris=(REDIRECT, "http://127.0.0.1/b")), "erp": CRM}
    target = open_office(vault, clients=clients).logins.targets.find
    known, new = await target("acme"), await target("new", client_name="crm")
    assert (known.client.name, known.redirect_uri(None)) == ("crm", REDIRECT)
    assert known.grant == await get(vault)
    assert (new.client, new.redirect_uri(None), new.grant) == (known.client, REDIRECT, None)
    listened_on = "http://127.0.0.1:4711/b"
    assert known.redirect_uri(listened_on) == listened_on
    with pytest.raises(AuthorizationFailed, match="is not in the redirect_uris of client crm"):
        known.redirect_uri("https://evil.example/b")
    with pytest.raises(AuthorizationFailed, match="acme belongs to client crm: take another name"):
        await target("acme", client_name="erp")
    assert len(await vault.grants()) == 1


PROMISING_CRM = changed(CRM, issuer="https://promising.example")


@pytest.mark.parametrize(
    ("client", "iss", "message"),
    [
        (PROMISING_CRM, "https://promising.example", None),
        (PROMISING_CRM, None, "promise that an answer names it"),
        (PROMISING_CRM, "https://other.example", "names another issuer than https://promising"),
        (changed(CRM, issuer="https://silent.example"), None, None),
        (changed(CRM, issuer="https://silent.example"), "https://x.example", "another issuer than"),
        (CRM, "https://unknown.example", None),
        (CRM, "https://other.example", "names the issuer of another client"),
    ],
)
async def test_an_answer_comes_from_the_server_that_was_asked(
    vault: Vault, client: Client, iss: str | None, message: str | None
) -> None:
    other = changed(
        CRM,
        name="other",
        issuer="https://other.example",
        authorization_endpoint="https://other.example/authorize",
    )
    office = open_office(vault, answered("at", "rt"), clients={"crm": client, "other": other})
    login = await office.logins.begin("acme", client_name="crm")
    pasted = callback(login) if iss is None else callback(login, iss=iss)
    if message is None:
        await office.logins.finish(login.id, pasted)
        return
    with pytest.raises(AuthorizationFailed, match=message):
        await office.logins.finish(login.id, pasted)
    assert office.endpoint.calls == []
    assert (await get(vault)).state is GrantState.PENDING


async def test_a_bare_code_cannot_keep_a_promise(vault: Vault) -> None:
    office = open_office(vault, answered("at", "rt"), clients={"crm": PROMISING_CRM})
    login = await office.logins.begin("acme", client_name="crm")
    with pytest.raises(AuthorizationFailed, match="only a part of it was pasted"):
        await office.logins.finish(login.id, "the-code")
    assert office.endpoint.calls == []


async def test_the_issuer_of_ones_own_server_is_known_from_a_neighbour(vault: Vault) -> None:
    clients = {
        "crm": CRM,
        "neighbour": changed(CRM, name="neighbour", issuer="https://crm.example"),
    }
    office = open_office(vault, answered("at", "rt"), clients=clients)
    login = await office.logins.begin("acme", client_name="crm")
    await office.logins.finish(login.id, callback(login, iss="https://crm.example"))


ANN = ResourceOwner(name="ann@b.example", subject="1")
BOB = ResourceOwner(name="bob@b.example", subject="2")


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        (ANN, ANN, None),
        (ANN, BOB, "ann@b.example"),
        (ANN, replace(ANN, name="renamed@b.example"), None),
        (ANN, replace(BOB, name="ann@b.example"), "ann@b.example"),
        (replace(ANN, subject=None), BOB, "ann@b.example"),
        (replace(ANN, subject=None), ANN, None),
        (None, BOB, None),
        (ANN, None, None),
    ],
)
async def test_no_account_takes_a_grant_over_in_silence(
    vault: Vault,
    lines: Lines,
    before: ResourceOwner | None,
    now: ResourceOwner | None,
    told: str | None,
) -> None:
    office = open_office(
        vault,
        answered("at-1", "rt-1", resource_owner=before),
        answered("at-2", "rt-2", resource_owner=now),
    )
    await log_in(office)
    login = await office.logins.begin("acme")
    done = await office.logins.finish(login.id, callback(login))
    assert done.account_before == told
    assert done.grant.authorized_by == (None if now is None else now.name)
    assert len(lines.of(Event.GRANT_ACCOUNT_CHANGED)) == (told is not None)
    assert "b.example" not in lines.output.getvalue()


async def test_who_authorized_is_known_as_long_as_the_authorization_counts(vault: Vault) -> None:
    office = open_office(vault, answered("at-1", "rt-1", resource_owner=ANN))
    await log_in(office)
    await refresh(vault, answered("at-2", "rt-2"), NOW + LIFE)
    assert (await get(vault)).authorized_by == ANN.name
    await sow(vault, make_seed(refresh_token="rt-9"))
    assert (await get(vault)).authorized_by is None


async def test_no_code_is_spent_on_a_refusing_vault(vault: Vault) -> None:
    office = open_office(vault, answered("at-1", "rt-1"))
    login = await office.logins.begin("acme", client_name="crm")
    set_writable(vault, writable=False)
    with pytest.raises(VaultUnavailable):
        await office.logins.finish(login.id, callback(login))
    assert office.endpoint.calls == []


async def test_a_redeemed_login_is_written_in_the_end(vault: Vault, lines: Lines) -> None:
    """The vault begins to refuse while the code is being exchanged."""

    async def script(_: Call) -> Outcome:
        set_writable(vault, writable=False)
        return answered("at-1", "rt-1")

    office = open_office(vault)
    office.endpoint.script = script
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(log_in, office)
        await eventually(lambda: lines.of(Event.VAULT_REFUSED), "the refusal")
        set_writable(vault, writable=True)
    assert holds(vault, await get(vault), "rt-1")
    assert len(office.endpoint.calls) == 1


async def test_a_grant_removed_meanwhile_is_not_revived(vault: Vault) -> None:
    async def script(_: Call) -> Outcome:
        await vault.remove("acme")
        return answered("at-1", "rt-1")

    office = open_office(vault)
    office.endpoint.script = script
    with pytest.raises(UnknownGrant):
        await log_in(office)
    assert await vault.grants() == []


async def test_a_token_never_goes_to_another_client(vault: Vault) -> None:
    """The name was removed and given to another client while its login was under way."""

    async def script(_: Call) -> Outcome:
        await vault.remove("acme")
        await sow(vault, make_seed(refresh_token=None, client="erp"))
        return answered("at-1", "rt-1")

    office = open_office(vault)
    office.endpoint.script = script
    with pytest.raises(AuthorizationFailed, match="was given to client erp meanwhile"):
        await log_in(office)
    assert (await get(vault)).refresh_token_fingerprint is None


async def test_no_line_of_a_login_holds_a_secret(
    vault: Vault, lines: Lines, canary: Canary
) -> None:
    office = open_office(
        vault,
        answered(canary.plant("at"), canary.plant("rt")),
        GrantRejected(error="invalid_grant", status=400),
    )
    code = canary.plant("code")
    login = await office.logins.begin("acme", client_name="crm")
    canary.add(login.request.awaited.state.reveal())
    assert login.request.awaited.code_verifier is not None
    canary.add(login.request.awaited.code_verifier.reveal())
    await office.logins.finish(login.id, callback(login, code=code))
    again = await office.logins.begin("acme")
    with pytest.raises(AuthorizationFailed) as raised:
        await office.logins.finish(again.id, callback(again, code=code))
    seen = lines.output.getvalue() + str(raised.value) + repr(raised.value)
    assert lines.events() == ["grant.added", "grant.authorized"]
    assert canary.found_in(seen.encode()) == set()


async def test_a_login_is_found_by_its_state(vault: Vault) -> None:
    office = open_office(vault, clients={"crm": CRM})
    first = await office.logins.begin("one", client_name="crm")
    second = await office.logins.begin("two", client_name="crm")
    state = second.request.awaited.state.reveal()
    found = await office.logins.find(f"code=x&state={state}")
    assert found is not None
    assert (found.id, found.name, found.awaited) == (second.id, "two", second.request.awaited)
    other = await office.logins.find(f"code=x&state={first.request.awaited.state.reveal()}")
    assert other is not None
    assert other.id == first.id
    assert await office.logins.find("code=x&state=other") is None
    assert await office.logins.find(f"state={state}&state={state}") is None
    office.clock.move(LOGIN_MINUTES * 60 + 1)
    assert await office.logins.find(f"code=x&state={state}") is None


async def test_another_process_finishes_a_login(vault: Vault) -> None:
    """The one that began it has died; who asked for it stands in the vault's log all the same."""
    with acting(operator(1000, 4711)):
        login = await open_office(vault).logins.begin("acme", client_name="crm")
    office = open_office(vault, answered("at-1", "rt-1"))
    await office.logins.finish(login.id, callback(login))
    [call] = office.endpoint.calls
    awaited = login.request.awaited
    assert (call.redirect_uri, call.code_verifier) == (REDIRECT, awaited.code_verifier)
    [change, *_] = await vault.changes.page(after=0, limit=9, grant=None)
    assert (change.what, change.uid, change.pid) == ("authorized", 1000, 4711)


async def test_two_answers_to_one_login_spend_one_code(vault: Vault) -> None:
    """Two processes, or a page that was loaded twice: the second is told, and sends nothing."""
    asked, other = anyio.Event(), anyio.Event()

    async def script(_: Call) -> Outcome:
        asked.set()
        await other.wait()
        return answered("at-1", "rt-1")

    first, second = open_office(vault), open_office(vault)
    first.endpoint.script = script
    login = await first.logins.begin("acme", client_name="crm")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first.logins.finish, login.id, callback(login))
        await asked.wait()
        with pytest.raises(AuthorizationFailed, match="has been answered already"):
            await second.logins.finish(login.id, callback(login))
        other.set()
    assert second.endpoint.calls == []
    assert holds(vault, await get(vault), "rt-1")


async def test_a_code_that_died_with_its_process_is_not_sent_again(vault: Vault) -> None:
    office = open_office(vault, answered("at-1", "rt-1"))
    login = await office.logins.begin("acme", client_name="crm")
    assert await vault.logins.take(login.id)
    assert not await vault.logins.take(login.id)
    with pytest.raises(AuthorizationFailed, match="`refresher status acme` says what came of it"):
        await office.logins.finish(login.id, callback(login))
    assert office.endpoint.calls == []


@pytest.mark.parametrize(
    "now",
    [
        {"crm": changed(CRM, client_id="another")},
        {"crm": changed(CRM, token_endpoint="https://other.example/token")},
        {},
    ],
    ids=["client_id", "token_endpoint", "no client"],
)
async def test_a_code_goes_to_no_other_server(vault: Vault, now: dict[str, Client]) -> None:
    """The settings were changed between the consent and the code."""
    login = await open_office(vault).logins.begin("acme", client_name="crm")
    office = open_office(vault, answered("at-1"), clients=now)
    with pytest.raises(AuthorizationFailed, match=r"than when the login began|there is no client"):
        await office.logins.finish(login.id, callback(login))
    assert office.endpoint.calls == []
