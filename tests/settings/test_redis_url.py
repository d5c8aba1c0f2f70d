"""A Redis that can be overheard or pretended to be is told, and not refused."""

import pytest

from refresher.settings.urls import redis_doubts, redis_fault
from tests.settings.conftest import CLIENT, Bench

PASSWORD = "canary-password"
TLS = "rediss://redis.example/0"

ALTERABLE = {
    f"{TLS}?ssl_cert_reqs=none": "ssl_cert_reqs=none",
    f"{TLS}?ssl_cert_reqs=optional": "ssl_cert_reqs=optional",
    f"{TLS}?ssl_check_hostname=false": "ssl_check_hostname off",
    f"{TLS}?ssl_check_hostname=False": "ssl_check_hostname off",
    f"{TLS}?ssl_check_hostname=0": "ssl_check_hostname off",
    f"{TLS}?ssl_check_hostname=no": "ssl_check_hostname off",
    f"{TLS}?db=3&ssl_check_hostname=N": "ssl_check_hostname off",
    "rediss://127.0.0.1?ssl_cert_reqs=none": "ssl_cert_reqs=none",
    f"{TLS}?ssl_ciphers=ALL:@SECLEVEL%3D0": "ssl_ciphers",
    f"{TLS}?ssl_ciphers=DEFAULT:@SECLEVEL%3D1": "ssl_ciphers",
    f"{TLS}?ssl_ciphers=aNULL": "ssl_ciphers",
    f"{TLS}?ssl_ciphers=HIGH:eNULL": "ssl_ciphers",
    f"{TLS}?ssl_ciphers=ADH": "ssl_ciphers",
    f"{TLS}?ssl_ciphers=RC4:HIGH": "ssl_ciphers",
    f"redis://:{PASSWORD}@redis.example": "in the clear",
    f"redis://user:{PASSWORD}@redis.example:6380/2": "in the clear",
    f"redis://:{PASSWORD}@10.0.0.7": "in the clear",
    f"redis://:{PASSWORD}@[fd00::7]:6379": "in the clear",
    f"redis://:{PASSWORD}@localhost.example": "in the clear",
    f"redis+sentinel://:{PASSWORD}@127.0.0.1,redis.example/acme": "in the clear",
    f"redis+sentinel://redis.example/acme?sentinel_password={PASSWORD}": "in the clear",
    f"redis+cluster://u:{PASSWORD}@redis.example:7000,redis.example:7001": "in the clear",
    "rediss+sentinel://redis.example/acme?ssl_cert_reqs=none": "ssl_cert_reqs=none",
    "rediss+cluster://redis.example?ssl_check_hostname=no": "ssl_check_hostname off",
}

SOUND = [
    TLS,
    f"rediss://:{PASSWORD}@redis.example",
    f"{TLS}?ssl_cert_reqs=required&ssl_check_hostname=true",
    f"{TLS}?ssl_ciphers=HIGH:!aNULL:!MD5:!RC4",
    f"{TLS}?ssl_ciphers=ECDHE%2BAESGCM:!NULL",
    f"{TLS}?ssl_ciphers=ECDHE-RSA-AES256-GCM-SHA384:@SECLEVEL%3D2",
    "redis://redis.example",
    f"redis://:{PASSWORD}@127.0.0.1",
    f"redis://:{PASSWORD}@127.8.9.1:6380",
    f"redis://:{PASSWORD}@[::1]",
    f"redis://:{PASSWORD}@localhost/1",
    f"redis://:{PASSWORD}@redis.localhost",
    f"unix://:{PASSWORD}@/run/redis.sock",
    "redis+sentinel://one,two:26380,[fd00::7]:26379/acme",
    f"redis+sentinel://:{PASSWORD}@127.0.0.1:1,127.0.0.1:2/acme/3?sentinel_username=us",
    f"rediss+sentinel://u:{PASSWORD}@one,two/acme?sentinel_password={PASSWORD}",
    "redis+cluster://one,two:6380",
    f"rediss+cluster://u:{PASSWORD}@one,two/0?ssl_ciphers=HIGH",
]

UNUSABLE = {
    "redis+sentinel://one,two": "has no name of a master",
    "redis+sentinel://one,two/acme/five": "where DB is a number",
    "redis+sentinel://one,two/acme/5/6": "where DB is a number",
    "redis+sentinel://one,/acme": "has a host that cannot be read",
    "redis+sentinel://one:port/acme": "has a host that cannot be read",
    "redis+sentinel://one/acme?db=3": "has the option db",
    "redis+sentinel://one/acme?ssl_cert_reqs=none": "needs rediss://",
    "rediss+sentinel://one/acme?ssl_cert_reqs=": "ssl_cert_reqs other than",
    "redis+sentinel://one/acme?timeout=3": "has an option other than",
    "redis+cluster://one,two/1": "a cluster has one database",
    "redis+cluster://one?sentinel_password=x": "is for sentinels",
    "redis+cluster://one two": "has a space",
    "redis+mirror://one": "is not a Redis URL",
    "valkey+cluster://one": "is not a Redis URL",
}


@pytest.mark.parametrize(("url", "told"), UNUSABLE.items(), ids=UNUSABLE.keys())
def test_a_url_that_names_no_servers_is_refused(bench: Bench, url: str, told: str) -> None:
    (problem,) = bench.problems(f'{CLIENT}[redis]\nurl = "{url}"')
    assert "redis.url" in problem
    assert told in problem


@pytest.mark.parametrize(("url", "named"), ALTERABLE.items(), ids=ALTERABLE.keys())
def test_a_url_that_others_can_use_is_told(bench: Bench, url: str, named: str) -> None:
    assert redis_fault(url) is None
    (warning,) = bench.load(f'{CLIENT}[redis]\nurl = "{url}"').warnings
    assert "redis.url" in warning
    assert named in warning
    assert PASSWORD not in warning


@pytest.mark.parametrize("url", SOUND)
def test_a_sound_url_needs_no_word(bench: Bench, url: str) -> None:
    assert bench.load(f'{CLIENT}[redis]\nurl = "{url}"').warnings == ()


def test_a_password_beside_the_url_travels_with_it(bench: Bench) -> None:
    text = f'{CLIENT}[redis]\nurl = "redis://redis.example"\npassword = "{PASSWORD}"'
    (warning,) = bench.load(text).warnings
    assert "in the clear" in warning
    assert bench.load(text.replace("redis://", "rediss://")).warnings == ()
    assert bench.load(text.replace("redis.example", "127.0.0.1")).warnings == ()


def test_each_weakness_has_its_word() -> None:
    url = f"{TLS}?ssl_cert_reqs=none&ssl_check_hostname=false&ssl_ciphers=NULL"
    assert len(redis_doubts(url, has_password=True)) == 3


@pytest.mark.parametrize("value", ["NONE", "None", "maybe", "0", ""])
def test_an_unknown_kind_of_verification_is_refused(bench: Bench, value: str) -> None:
    text = f'{CLIENT}[redis]\nurl = "{TLS}?ssl_cert_reqs={value}"'
    (problem,) = bench.problems(text)
    assert "ssl_cert_reqs other than required, optional, none" in problem


@pytest.mark.parametrize("option", ["ssl_ca_certs", "ssl_certfile", "ssl_keyfile"])
def test_a_tls_file_that_others_can_change_is_a_problem(bench: Bench, option: str) -> None:
    bench.write("redis.pem", "-----BEGIN", mode=0o600)
    text = f'{CLIENT}[redis]\nurl = "{TLS}?{option}={bench.folder}/redis.pem"'
    assert bench.load(text).warnings == ()
    (bench.folder / "redis.pem").chmod(0o662)
    (problem,) = bench.problems(text)
    assert f"redis.url has an {option} that others can change" in problem


def test_a_tls_key_that_others_can_read_is_told(bench: Bench) -> None:
    bench.write("redis.pem", "-----BEGIN", mode=0o644)
    (warning,) = bench.load(
        f'{CLIENT}[redis]\nurl = "{TLS}?ssl_keyfile={bench.folder}/redis.pem"'
    ).warnings
    assert "redis.url has an ssl_keyfile that others can read" in warning


def test_a_tls_file_that_is_missing_keeps_no_daemon_from_starting(bench: Bench) -> None:
    (warning,) = bench.load(f'{CLIENT}[redis]\nurl = "{TLS}?ssl_ca_certs=/no/ca.pem"').warnings
    assert "redis.url has ssl_ca_certs /no/ca.pem, which" in warning
