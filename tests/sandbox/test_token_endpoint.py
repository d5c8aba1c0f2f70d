"""The token endpoint by the book: client authentication and the errors of RFC 6749."""

import base64
from urllib.parse import quote_plus

import pytest

from refresher.sandbox import Sandbox, SandboxOptions, TokenPolicy
from tests.sandbox.wire import get, post, refresh, resource_status


def basic(client_id: str, client_secret: str) -> dict[str, str]:
    pair = f"{quote_plus(client_id)}:{quote_plus(client_secret)}"
    return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


async def test_a_refresh_answers_as_section_5_1(sandbox: Sandbox) -> None:
    minted = sandbox.mint(scope="read write")
    reply = await refresh(sandbox, minted.refresh_token)
    assert reply.status == 200
    assert reply.headers["Cache-Control"] == "no-store"
    assert reply.json["token_type"] == "Bearer"
    assert reply.json["expires_in"] == 20
    assert reply.json["scope"] == "read write"
    assert await resource_status(sandbox, reply.json["access_token"]) == 200


async def test_the_resource_tells_whose_token_it_is(sandbox: Sandbox) -> None:
    minted = sandbox.mint(subject="guest", scope="read")
    headers = {"Authorization": f"Bearer {minted.access_token}"}
    reply = await get(sandbox.resource_url, headers=headers)
    assert reply.json == {"subject": "guest", "scope": "read"}


async def test_an_expired_access_token_gets_a_challenge() -> None:
    now = [1000.0]
    async with Sandbox(SandboxOptions(access_token_lifetime=5), clock=lambda: now[0]) as sandbox:
        minted = sandbox.mint()
        now[0] += 4.9
        assert await resource_status(sandbox, minted.access_token) == 200
        now[0] += 0.1
        headers = {"Authorization": f"Bearer {minted.access_token}"}
        reply = await get(sandbox.resource_url, headers=headers)
        assert reply.status == 401
        assert 'error="invalid_token"' in reply.headers["WWW-Authenticate"]


async def test_basic_credentials_are_form_decoded(sandbox: Sandbox) -> None:
    secret = "p%ss word:+/ä"
    application = sandbox.register(client_id="id:with colon", client_secret=secret)
    minted = sandbox.mint(client_id=application.client_id)
    form = {"grant_type": "refresh_token", "refresh_token": minted.refresh_token}
    reply = await post(sandbox.token_endpoint, form, headers=basic("id:with colon", secret))
    assert reply.status == 200


async def test_a_public_client_needs_no_secret(sandbox: Sandbox) -> None:
    application = sandbox.register(public=True)
    minted = sandbox.mint(client_id=application.client_id)
    form = {
        "grant_type": "refresh_token",
        "refresh_token": minted.refresh_token,
        "client_id": application.client_id,
    }
    assert (await post(sandbox.token_endpoint, form)).status == 200


@pytest.mark.parametrize(
    ("changes", "headers", "status", "error"),
    [
        pytest.param({"client_secret": "wrong"}, {}, 401, "invalid_client", id="wrong secret"),
        pytest.param({"client_id": "nobody"}, {}, 401, "invalid_client", id="unknown client"),
        pytest.param(
            {}, basic("sandbox-client", "x"), 400, "invalid_request", id="two ways at once"
        ),
        pytest.param(
            {"client_secret": ""}, {"Authorization": "Basic ?"}, 400, "invalid_request", id="both"
        ),
        pytest.param({"grant_type": ""}, {}, 400, "invalid_request", id="no grant type"),
        pytest.param(
            {"grant_type": "password"}, {}, 400, "unsupported_grant_type", id="other grant type"
        ),
        pytest.param({"refresh_token": ""}, {}, 400, "invalid_request", id="no refresh token"),
        pytest.param({"refresh_token": "x"}, {}, 400, "invalid_grant", id="unknown token"),
        pytest.param({"scope": "admin"}, {}, 400, "invalid_scope", id="wider scope"),
    ],
)
async def test_each_mistake_has_its_error(
    sandbox: Sandbox, changes: dict[str, str], headers: dict[str, str], status: int, error: str
) -> None:
    minted = sandbox.mint()
    form = {
        "grant_type": "refresh_token",
        "refresh_token": minted.refresh_token,
        "client_id": "sandbox-client",
        "client_secret": "sandbox-secret",
        **changes,
    }
    reply = await post(sandbox.token_endpoint, form, headers=headers)
    assert (reply.status, reply.json["error"]) == (status, error)
    assert sandbox.log[-1].error == error
    assert ("WWW-Authenticate" in reply.headers) is (status == 401)
    assert (await refresh(sandbox, minted.refresh_token)).status == 200, "nothing was spent"


@pytest.mark.parametrize("header", ["Basic ?", "Basic bm9jb2xvbg==", "Digest eDp5"])
async def test_an_unreadable_header_is_invalid_client(sandbox: Sandbox, header: str) -> None:
    form = {"grant_type": "refresh_token", "refresh_token": "x"}
    reply = await post(sandbox.token_endpoint, form, headers={"Authorization": header})
    assert (reply.status, reply.json["error"]) == (401, "invalid_client")


async def test_parameters_in_the_query_are_not_read(sandbox: Sandbox) -> None:
    minted = sandbox.mint()
    query = {
        "grant_type": "refresh_token",
        "refresh_token": minted.refresh_token,
        "client_id": "sandbox-client",
        "client_secret": "sandbox-secret",
    }
    reply = await post(sandbox.token_endpoint, query=query)
    assert reply.json["error"] == "invalid_client"


async def test_a_repeated_parameter_is_invalid_request(sandbox: Sandbox) -> None:
    body = "client_id=sandbox-client&client_secret=sandbox-secret&client_id=sandbox-client"
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert await _post_text(sandbox, body, headers) == "invalid_request"


async def test_a_json_body_is_invalid_request(sandbox: Sandbox) -> None:
    error = await _post_text(sandbox, "{}", {"Content-Type": "application/json"})
    assert error == "invalid_request"


async def test_a_rotated_client_secret_locks_out(sandbox: Sandbox) -> None:
    minted = sandbox.mint()
    sandbox.register(client_id="sandbox-client", client_secret="new")
    assert (await refresh(sandbox, minted.refresh_token)).json["error"] == "invalid_client"
    reply = await refresh(sandbox, minted.refresh_token, client_secret="new")
    assert reply.status == 200


async def test_a_client_may_have_its_own_policy(sandbox: Sandbox) -> None:
    application = sandbox.register(
        client_secret="s", policy=TokenPolicy(rotation="none", access_token_lifetime=77)
    )
    minted = sandbox.mint(client_id=application.client_id)
    reply = await refresh(
        sandbox, minted.refresh_token, client_id=application.client_id, client_secret="s"
    )
    assert reply.json["refresh_token"] == minted.refresh_token
    assert reply.json["expires_in"] == 77


async def test_revocation_by_the_client_ends_the_grant(sandbox: Sandbox) -> None:
    minted = sandbox.mint()
    client = {"client_id": "sandbox-client", "client_secret": "sandbox-secret"}
    reply = await post(sandbox.revocation_endpoint, {"token": minted.refresh_token, **client})
    assert reply.status == 200
    assert (await refresh(sandbox, minted.refresh_token)).json["error"] == "invalid_grant"
    assert await resource_status(sandbox, minted.access_token) == 401
    unknown = await post(sandbox.revocation_endpoint, {"token": "never issued", **client})
    assert unknown.status == 200
    foreign = sandbox.register(public=True)
    refused = await post(
        sandbox.revocation_endpoint,
        {"token": sandbox.mint().refresh_token, "client_id": foreign.client_id},
    )
    assert refused.json["error"] == "unauthorized_client"


async def test_metadata_names_the_real_endpoints(sandbox: Sandbox) -> None:
    reply = await get(f"{sandbox.base_url}/.well-known/oauth-authorization-server")
    assert reply.json["issuer"] == sandbox.base_url
    assert reply.json["token_endpoint"] == sandbox.token_endpoint


async def _post_text(sandbox: Sandbox, body: str, headers: dict[str, str]) -> str:
    reply = await post(sandbox.token_endpoint, body, headers=headers)
    return str(reply.json["error"])
