"""The authorization endpoint and the exchange of its codes."""

import base64
import hashlib

import pytest

from refresher.sandbox import Sandbox, SandboxOptions
from tests.sandbox.wire import Reply, get, post, redirect_parameters, refresh

REDIRECT = "http://127.0.0.1/callback"
VERIFIER = "a-verifier-of-at-least-forty-three-characters-length"
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest())[:-1].decode()


async def authorize(sandbox: Sandbox, **changes: str) -> Reply:
    query = {
        "response_type": "code",
        "client_id": sandbox.client.client_id,
        "redirect_uri": REDIRECT,
        "scope": "read write",
        "state": "a state/&=",
        **changes,
    }
    return await get(sandbox.authorization_endpoint, query=query)


async def exchange(sandbox: Sandbox, code: str, **changes: str) -> Reply:
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": REDIRECT,
        "client_id": sandbox.options.client_id,
        "client_secret": sandbox.options.client_secret,
        **changes,
    }
    return await post(sandbox.token_endpoint, form)


async def code_of(sandbox: Sandbox, **changes: str) -> str:
    return redirect_parameters(await authorize(sandbox, **changes))["code"]


async def test_a_code_becomes_a_living_grant(sandbox: Sandbox) -> None:
    answer = redirect_parameters(await authorize(sandbox))
    assert answer["state"] == "a state/&="
    reply = await exchange(sandbox, answer["code"])
    assert reply.json["scope"] == "read write"
    assert (await refresh(sandbox, reply.json["refresh_token"])).status == 200
    assert [record.grant_type for record in sandbox.log] == ["authorization_code", "refresh_token"]
    assert {record.family_id for record in sandbox.log} == {"family-1"}


async def test_a_second_use_ends_the_first(sandbox: Sandbox) -> None:
    code = await code_of(sandbox)
    first = await exchange(sandbox, code)
    assert (await exchange(sandbox, code)).json["error"] == "invalid_grant"
    reply = await refresh(sandbox, first.json["refresh_token"])
    assert reply.json["error"] == "invalid_grant"


async def test_a_code_expires() -> None:
    now = [1000.0]
    async with Sandbox(SandboxOptions(code_lifetime=60), clock=lambda: now[0]) as sandbox:
        code = await code_of(sandbox)
        now[0] += 60.0
        assert (await exchange(sandbox, code)).json["error"] == "invalid_grant"


async def test_the_redirect_uri_must_be_repeated(sandbox: Sandbox) -> None:
    code = await code_of(sandbox)
    wrong = await exchange(sandbox, code, redirect_uri="http://127.0.0.1/other")
    assert wrong.json["error"] == "invalid_grant"
    missing = await exchange(sandbox, code, redirect_uri="")
    assert missing.json["error"] == "invalid_grant"
    assert (await exchange(sandbox, code)).status == 200


async def test_a_challenge_wants_its_verifier(sandbox: Sandbox) -> None:
    code = await code_of(sandbox, code_challenge=CHALLENGE, code_challenge_method="S256")
    assert (await exchange(sandbox, code)).json["error"] == "invalid_grant"
    wrong = await exchange(sandbox, code, code_verifier=VERIFIER + "x")
    assert wrong.json["error"] == "invalid_grant"
    assert (await exchange(sandbox, code, code_verifier=VERIFIER)).status == 200


async def test_a_verifier_without_challenge_is_refused(sandbox: Sandbox) -> None:
    code = await code_of(sandbox)
    reply = await exchange(sandbox, code, code_verifier=VERIFIER)
    assert reply.json["error"] == "invalid_grant"


async def test_a_code_of_another_client_is_refused(sandbox: Sandbox) -> None:
    other = sandbox.register(public=True)
    code = await code_of(sandbox)
    reply = await exchange(sandbox, code, client_id=other.client_id, client_secret="")
    assert reply.json["error"] == "invalid_grant"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        pytest.param({"decision": "deny"}, "access_denied", id="refused by the account"),
        pytest.param({"response_type": "token"}, "unsupported_response_type", id="implicit"),
        pytest.param({"code_challenge": "x"}, "invalid_request", id="plain challenge"),
    ],
)
async def test_errors_come_back_with_the_state(
    sandbox: Sandbox, changes: dict[str, str], error: str
) -> None:
    answer = redirect_parameters(await authorize(sandbox, **changes))
    assert (answer["error"], answer["state"]) == (error, "a state/&=")
    assert "code" not in answer


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"client_id": "nobody"}, id="unknown client"),
        pytest.param({"redirect_uri": "https://evil.example/callback"}, id="foreign redirect"),
        pytest.param({"redirect_uri": "http://127.0.0.1/other"}, id="other path"),
    ],
)
async def test_nobody_is_sent_to_strangers(sandbox: Sandbox, changes: dict[str, str]) -> None:
    reply = await authorize(sandbox, **changes)
    assert reply.status == 400
    assert "Location" not in reply.headers


async def test_a_loopback_redirect_has_any_port(sandbox: Sandbox) -> None:
    reply = await authorize(sandbox, redirect_uri="http://127.0.0.1:51234/callback")
    assert reply.headers["Location"].startswith("http://127.0.0.1:51234/callback?code=")


async def test_the_account_decides_what_is_granted() -> None:
    options = SandboxOptions(scopes=("read", "write"), allowed_scopes={"guest": ("read",)})
    async with Sandbox(options) as sandbox:
        full = await exchange(sandbox, await code_of(sandbox))
        partial = await exchange(sandbox, await code_of(sandbox, login_hint="guest"))
        nothing = await authorize(sandbox, login_hint="guest", scope="write")
        unknown = await authorize(sandbox, scope="admin")
    assert full.json["scope"] == "read write"
    assert partial.json["scope"] == "read"
    assert [record.subject for record in sandbox.log] == ["owner", "guest"]
    assert redirect_parameters(nothing)["error"] == "invalid_scope"
    assert redirect_parameters(unknown)["error"] == "invalid_scope"


async def test_the_options_can_refuse_every_consent() -> None:
    async with Sandbox(SandboxOptions(consent="deny")) as sandbox:
        denied = redirect_parameters(await authorize(sandbox))
        approved = redirect_parameters(await authorize(sandbox, decision="approve"))
    assert denied["error"] == "access_denied"
    assert "code" in approved


async def test_a_code_may_bring_no_refresh_token() -> None:
    async with Sandbox(SandboxOptions(refresh_token_at_authorization=False)) as sandbox:
        reply = await exchange(sandbox, await code_of(sandbox))
    assert "refresh_token" not in reply.json
    assert reply.json["access_token"]
