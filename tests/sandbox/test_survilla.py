"""A Survilla portal, as its documentation describes it, from application to revocation."""

from typing import Any

import pytest

from refresher.sandbox import Application, Sandbox, SandboxOptions
from tests.sandbox.wire import Reply, get, post, redirect_parameters

REDIRECT = "https://integration.example/callback"


async def authorize(sandbox: Sandbox, application: Application, **changes: str) -> Reply:
    query = {
        "response_type": "code",
        "client_id": application.client_id,
        "redirect_uri": REDIRECT,
        "scope": "read,liveview,recordings",
        "state": "s1",
        **changes,
    }
    return await get(f"{sandbox.base_url}/oauth2/auth/", query=query)


async def token(sandbox: Sandbox, application: Application, **parameters: str) -> Reply:
    """A token request as documented: a POST with everything in its query."""
    assert application.client_secret is not None
    query = {
        "client_id": application.client_id,
        "client_secret": application.client_secret,
        **parameters,
    }
    return await post(f"{sandbox.base_url}/oauth2/token", query=query)


async def cameras(sandbox: Sandbox, bearer: str) -> list[str]:
    reply = await graphql(sandbox, bearer)
    listed: list[dict[str, Any]] = reply.json["data"]["cameraList"]
    return [camera["name"] for camera in listed]


async def graphql(sandbox: Sandbox, bearer: str) -> Reply:
    headers = {"Authorization": f"Bearer {bearer}"}
    return await post(
        f"{sandbox.base_url}/api/graphql.php", '{"query":"{cameraList{name}}"}', headers=headers
    )


def register(sandbox: Sandbox) -> Application:
    return sandbox.register(
        name="NVR sync", description="copies recordings", redirect_uris=[REDIRECT]
    )


async def login(sandbox: Sandbox, application: Application, **changes: str) -> dict[str, Any]:
    answer = redirect_parameters(await authorize(sandbox, application, **changes))
    reply = await token(
        sandbox,
        application,
        grant_type="authorization_code",
        code=answer["code"],
        redirect_uri=REDIRECT,
    )
    assert reply.status == 200
    return reply.json


async def test_the_whole_path_of_an_integration() -> None:
    async with Sandbox(SandboxOptions.survilla()) as sandbox:
        application = register(sandbox)
        first = await login(sandbox, application)
        assert first["scope"] == "read,liveview,recordings"
        assert await cameras(sandbox, first["access_token"]) == ["Entrance", "Yard", "Warehouse"]

        refreshed = await token(
            sandbox,
            application,
            grant_type="refresh_token",
            refresh_token=first["refresh_token"],
        )
        second = refreshed.json
        assert second["refresh_token"] != first["refresh_token"]

        revoked = await post(
            f"{sandbox.base_url}/oauth2/revoke", query={"access_token": second["access_token"]}
        )
        assert (revoked.status, revoked.json["success"]) == (200, True)
        assert (await graphql(sandbox, second["access_token"])).status == 401
        dead = await token(
            sandbox,
            application,
            grant_type="refresh_token",
            refresh_token=second["refresh_token"],
        )
        assert dead.json["error"] == "invalid_grant"


async def test_a_guest_sees_and_grants_less() -> None:
    async with Sandbox(SandboxOptions.survilla()) as sandbox:
        application = register(sandbox)
        granted = await login(sandbox, application, login_hint="guest")
        assert granted["scope"] == "read,liveview"
        assert await cameras(sandbox, granted["access_token"]) == ["Yard"]
        with pytest.raises(PermissionError):
            sandbox.register(name="mine", created_by="guest")


async def test_a_refused_consent_is_access_denied() -> None:
    async with Sandbox(SandboxOptions.survilla()) as sandbox:
        answer = redirect_parameters(await authorize(sandbox, register(sandbox), decision="deny"))
    assert answer["error"] == "access_denied"
    assert answer["state"] == "s1"


async def test_scopes_are_separated_by_commas_only() -> None:
    async with Sandbox(SandboxOptions.survilla()) as sandbox:
        answer = redirect_parameters(
            await authorize(sandbox, register(sandbox), scope="read liveview")
        )
    assert answer["error"] == "invalid_scope"


async def test_the_redirect_must_equal_a_registered_one() -> None:
    async with Sandbox(SandboxOptions.survilla()) as sandbox:
        application = sandbox.register(redirect_uris=["http://127.0.0.1:8080/callback"])
        reply = await authorize(sandbox, application, redirect_uri="http://127.0.0.1:9090/callback")
    assert reply.status == 400


async def test_the_redirect_parameter_may_be_called_otherwise() -> None:
    options = SandboxOptions.survilla(redirect_parameter="redirect_url")
    async with Sandbox(options) as sandbox:
        application = sandbox.register(redirect_uris=[REDIRECT, f"{REDIRECT}/2"])
        ignored = await authorize(sandbox, application)
        answer = redirect_parameters(await authorize(sandbox, application, redirect_url=REDIRECT))
        reply = await token(
            sandbox,
            application,
            grant_type="authorization_code",
            code=answer["code"],
            redirect_url=REDIRECT,
        )
    assert ignored.status == 400
    assert reply.status == 200


async def test_a_redirect_at_refresh_must_match() -> None:
    async with Sandbox(SandboxOptions.survilla(rotation="none")) as sandbox:
        application = register(sandbox)
        granted = await login(sandbox, application)
        wanted = {"grant_type": "refresh_token", "refresh_token": granted["refresh_token"]}
        right = await token(sandbox, application, **wanted, redirect_uri=REDIRECT)
        wrong = await token(sandbox, application, **wanted, redirect_uri=f"{REDIRECT}/x")
    assert right.status == 200
    assert wrong.json["error"] == "invalid_grant"


@pytest.mark.parametrize(
    ("parameters_in", "status"), [("query", 401), ("form", 200), ("either", 200)]
)
async def test_a_form_is_read_where_allowed(parameters_in: str, status: int) -> None:
    async with Sandbox(SandboxOptions.survilla(parameters_in=parameters_in)) as sandbox:
        form = {
            "grant_type": "refresh_token",
            "refresh_token": sandbox.mint().refresh_token,
            "client_id": "sandbox-client",
            "client_secret": "sandbox-secret",
        }
        assert (await post(sandbox.token_endpoint, form)).status == status


async def test_answers_may_come_without_refresh_token() -> None:
    options = SandboxOptions.survilla(refresh_token_in_answer=False)
    async with Sandbox(options) as sandbox:
        application = register(sandbox)
        granted = await login(sandbox, application)
        wanted = {"grant_type": "refresh_token", "refresh_token": granted["refresh_token"]}
        first = await token(sandbox, application, **wanted)
        again = await token(sandbox, application, **wanted)
    assert "refresh_token" not in first.json
    assert again.status == 200


async def test_revoking_twice_says_so_with_200() -> None:
    async with Sandbox(SandboxOptions.survilla()) as sandbox:
        query = {"access_token": sandbox.mint().access_token}
        replies = [await post(f"{sandbox.base_url}/oauth2/revoke", query=query) for _ in range(2)]
        unknown = await post(
            f"{sandbox.base_url}/oauth2/revoke", query={"access_token": "never issued"}
        )
    assert [reply.status for reply in (*replies, unknown)] == [200, 200, 200]
    assert [reply.json["success"] for reply in (*replies, unknown)] == [True, False, False]
    assert all(isinstance(reply.json["message"], str) for reply in replies)


async def test_a_static_api_token_works_alike() -> None:
    async with Sandbox(SandboxOptions.survilla()) as sandbox:
        static = sandbox.make_api_token("owner", ["read"])
        blind = sandbox.make_api_token("owner", ["events"])
        assert await cameras(sandbox, static) == ["Entrance", "Yard", "Warehouse"]
        assert (await graphql(sandbox, blind)).status == 403
        assert (await graphql(sandbox, "made up")).status == 401


async def test_basic_is_not_spoken_here() -> None:
    async with Sandbox(SandboxOptions.survilla()) as sandbox:
        headers = {"Authorization": "Basic c2FuZGJveC1jbGllbnQ6c2FuZGJveC1zZWNyZXQ="}
        query = {"grant_type": "refresh_token", "refresh_token": sandbox.mint().refresh_token}
        reply = await post(sandbox.token_endpoint, query=query, headers=headers)
    assert reply.json["error"] == "invalid_client"
