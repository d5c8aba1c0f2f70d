"""What right settings mean: clients, seeds and the plain sections."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import get_origin

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from refresher.domain.clients import Revocation, UnknownOutcome
from refresher.domain.grants import GrantKind, Seed
from refresher.domain.quirks import ClientAuthentication, Placement, Rotation, RotationProfile
from refresher.domain.secret import Secret
from refresher.logs import Level
from refresher.settings import describe, service_manager
from refresher.settings.document import Document, Section
from tests.settings.conftest import CLIENT, Bench
from tests.support.clients import make_client

SURVILLA = """
[clients.cameras]
provider = "survilla"
base_url = "https://portal.example/"
client_id = "id"
client_secret = "secret"
scope = "read,liveview"
"""


def test_a_plain_client_has_the_defaults(bench: Bench) -> None:
    assert bench.load(CLIENT).settings.clients["acme"] == make_client(
        "acme",
        client_id="refresher",
        client_secret=Secret("acme-secret"),
        token_endpoint="https://auth.acme.example/token",
    )


def test_a_provider_fills_in_its_quirks(bench: Bench) -> None:
    assert bench.load(SURVILLA).settings.clients["cameras"] == make_client(
        "cameras",
        provider="survilla",
        client_id="id",
        client_secret=Secret("secret"),
        authorization_endpoint="https://portal.example/oauth2/auth",
        token_endpoint="https://portal.example/oauth2/token",
        revocation=Revocation(
            endpoint="https://portal.example/oauth2/revoke",
            parameter="access_token",
            token="access_token",
            placement=Placement.QUERY,
            authenticated=False,
            success_field="success",
        ),
        client_authentication=ClientAuthentication.POST,
        placement=Placement.QUERY,
        scope=("read", "liveview"),
        scope_separator=",",
        pkce=False,
        default_expires_in=900.0,
    )


def test_a_client_overrides_every_quirk(bench: Bench) -> None:
    text = f"""{SURVILLA}
        token_endpoint = "https://other.example/token"
        revocation_endpoint = "/revoke"
        client_authentication = "client_secret_basic"
        encode_basic = false
        placement = "form"
        scope_separator = " "
        redirect_uri_parameter = "redirect_url"
        send_scope_on_refresh = true
        send_redirect_uri_on_refresh = true
        pkce = true
        description = "cameras"
        redirect_uris = "http://127.0.0.1:1/a http://127.0.0.1:1/b"
        authorization_parameters = {{ prompt = "consent" }}
        token_parameters = {{ audience = "x" }}
        extras = ["instance_url"]
        rejection_codes = "gone,lost"
        transient_codes = ["busy"]
        rotation = "grace(30)"
        on_unknown_outcome = "pause"
        default_expires_in = "8h"
        refresh_token_idle = "60d"
        survive_outage = 90
        concurrency = 2
        rate = 0.5
        proxy = "http://proxy:3128"
        """
    client = bench.load(text).settings.clients["cameras"]
    revocation = client.endpoints.revocation
    assert revocation is not None
    assert revocation.endpoint == "https://portal.example/revoke"
    assert revocation.parameter == "access_token"
    assert client == make_client(
        "cameras",
        provider="survilla",
        client_id="id",
        client_secret=Secret("secret"),
        authorization_endpoint="https://portal.example/oauth2/auth",
        token_endpoint="https://other.example/token",
        revocation=revocation,
        encode_basic=False,
        scope=("read", "liveview"),
        redirect_uri_parameter="redirect_url",
        send_scope_on_refresh=True,
        send_redirect_uri_on_refresh=True,
        description="cameras",
        redirect_uris=("http://127.0.0.1:1/a", "http://127.0.0.1:1/b"),
        authorization_parameters={"prompt": "consent"},
        token_parameters={"audience": "x"},
        extras=("instance_url",),
        rejection_codes=("gone", "lost"),
        transient_codes=("busy",),
        rotation=Rotation(RotationProfile.GRACE, 30.0),
        on_unknown_outcome=UnknownOutcome.PAUSE,
        default_expires_in=28_800.0,
        refresh_token_idle=5_184_000.0,
        survive_outage=90.0,
        concurrency=2,
        rate=0.5,
        proxy="http://proxy:3128",
    )


def test_a_public_client_needs_no_secret(bench: Bench) -> None:
    text = CLIENT.replace('client_secret = "acme-secret"', 'client_authentication = "none"')
    client = bench.load(text).settings.clients["acme"]
    assert client.quirks.client_authentication is ClientAuthentication.NONE
    assert client.authentication.secret is None


def test_an_undocumented_scope_is_warned_of(bench: Bench) -> None:
    text = SURVILLA.replace("liveview", "event")
    text += '[grants.a]\nclient = "cameras"\nscope = ["recording"]'
    first, second = bench.load(text).warnings
    assert "has event, which survilla does not document; did you mean events?" in first
    assert "grants.a.scope has recording" in second


def test_grants_become_seeds(bench: Bench) -> None:
    text = f"""{CLIENT}
        [grants.empty]
        client = "acme"
        [grants."shop:1"]
        client = "acme"
        scope = "a b"
        labels = {{ site = "north" }}
        refresh_token = "r"
        [grants.static]
        static_token = "s"
        expires_at = 2030-01-31T12:00:00+01:00
        token_type = "Token"
        [grants.static-of-client]
        client = "acme"
        static_token = "t"
        """
    assert bench.load(text).settings.seeds == [
        Seed(name="empty", client="acme"),
        Seed(
            name="shop:1",
            client="acme",
            scope=("a", "b"),
            labels={"site": "north"},
            refresh_token=Secret("r"),
        ),
        Seed(
            name="static",
            kind=GrantKind.STATIC,
            access_token=Secret("s"),
            expires_at=1_896_087_600.0,
            token_type="Token",
        ),
        Seed(
            name="static-of-client",
            kind=GrantKind.STATIC,
            client="acme",
            access_token=Secret("t"),
        ),
    ]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90.0), ('"90"', 90.0), ('"90s"', 90.0), ('"1.5m"', 90.0), ('"8h"', 28_800.0)],
)
def test_durations_are_read_as_seconds(bench: Bench, text: str, seconds: float) -> None:
    loaded = bench.load(f"[daemon]\nshutdown_deadline = {text}")
    assert loaded.settings.daemon.shutdown_deadline == seconds


@pytest.mark.parametrize("text", ["true", "inf", "nan", "-1", "0", '"-5s"', '"1y"', "[1]"])
def test_what_is_no_duration_is_refused(bench: Bench, text: str) -> None:
    (problem,) = bench.problems(f"[daemon]\nshutdown_deadline = {text}")
    assert problem.startswith("daemon.shutdown_deadline ")


@pytest.mark.parametrize(
    "text", ["1896087600", '"1896087600"', '"2030-01-31T11:00:00Z"', "2030-01-31T11:00:00Z"]
)
def test_instants_are_read_as_unix_seconds(bench: Bench, text: str) -> None:
    loaded = bench.load(f'[grants.a]\nstatic_token = "s"\nexpires_at = {text}')
    assert loaded.settings.seeds[0].expires_at == 1_896_087_600.0


def test_relative_paths_start_at_the_file(bench: Bench) -> None:
    text = '[vault]\npath = "data/v.db"\nkey_file = "/keys/v"\n[control]\nsocket = "c.sock"'
    settings = bench.load(text).settings
    assert settings.vault.path == bench.folder / "data" / "v.db"
    assert settings.vault.key_file == Path("/keys/v")
    assert settings.control.socket == bench.folder / "c.sock"


def test_the_control_socket_lies_beside_the_vault(bench: Bench) -> None:
    settings = bench.load('[vault]\npath = "/srv/r/vault.db"').settings
    assert settings.control.socket == Path("/srv/r/refresher.sock")
    assert settings.vault.key_file == Path("/srv/r/vault.key")


@pytest.mark.parametrize(
    "url",
    [
        "rediss://cache.example:6380/1",
        "unix:///run/redis.sock",
        "redis://[::1]",
    ],
)
def test_every_kind_of_redis_is_accepted(bench: Bench, url: str) -> None:
    redis = bench.load(f'[redis]\nurl = "{url}"').settings.redis
    assert (redis.url.reveal(), redis.location) == (url, url)


def test_log_and_listener_are_handed_on(bench: Bench) -> None:
    text = '[log]\nlevel = "error"\nformat = "json"\n[http]\nlisten = "[::1]:9464"'
    settings = bench.load(text).settings
    assert (settings.log.level, settings.log.json_lines) == (Level.ERROR, True)
    assert settings.http.listen == "[::1]:9464"
    assert bench.load("").settings.log.json_lines is None


def test_a_ca_bundle_is_checked_and_handed_on(bench: Bench) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    begin = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, begin, begin.replace(year=2124))
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    path = bench.write("ca.pem", certificate.decode())
    client = bench.load(CLIENT + 'ca_bundle = "ca.pem"').settings.clients["acme"]
    assert client.route.ca_bundle == str(path)


def test_the_summary_tells_what_was_found(bench: Bench) -> None:
    summary = bench.load(CLIENT + '[grants.b]\nclient = "acme"\n[grants.a]\nclient = "acme"')
    assert summary.summary() == [
        f"settings: {bench.file}",
        f"vault: {bench.folder / 'refresher.db'} (key file {bench.folder / 'refresher.key'})",
        "redis: redis://127.0.0.1:6379/0",
        f"control socket: {bench.folder / 'refresher.sock'}",
        "clients: 1 (acme)",
        "grants: 2 (a, b)",
        "secret clients.acme.client_secret: literal",
    ]


def test_every_field_is_described() -> None:
    lines = {line.key: line for line in describe()}
    assert set(lines) == set(keys_of(Document, ""))
    assert all(line.description.endswith(".") and line.type for line in lines.values())
    assert lines["redis.prefix"][1:4] == ("string", '"refresher:"', "REFRESHER_REDIS__PREFIX")
    assert lines["clients.NAME.concurrency"][1:4] == (
        "integer",
        "8",
        "REFRESHER_CLIENTS__NAME__CONCURRENCY",
    )
    assert lines["clients.NAME.default_expires_in"].type == "duration"
    assert lines["clients.NAME.rotation"].default == '"unknown"'


def test_every_described_variable_is_understood(bench: Bench) -> None:
    variables = [line.variable for line in describe() if line.variable]
    environment = {variable.replace("__NAME__", "__x__"): "?" for variable in variables}
    problems = bench.problems("", environment)
    assert not [problem for problem in problems if "is no known key" in problem]


def keys_of(model: type[Section], above: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        inner = getattr(field.annotation, "__args__", (field.annotation,))[-1]
        if isinstance(inner, type) and issubclass(inner, Section):
            of_many: dict[object, str] = {dict: ".NAME.", list: "[]."}
            middle = of_many.get(get_origin(field.annotation), ".")
            yield from keys_of(inner, f"{above}{name}{middle}")
        else:
            yield f"{above}{name}"


def test_the_watchdog_of_another_process_is_not_ours() -> None:
    environment = {"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "5", "WATCHDOG_PID": "7"}
    assert service_manager(environment, pid=7).watchdog_usec == "5"
    assert service_manager(environment, pid=8).watchdog_usec is None
    assert service_manager({}).notify_socket is None
