"""Files, variables, secret directories and arguments, and which of them wins."""

from pathlib import Path

import pytest

from refresher.errors import SettingsError
from refresher.settings import load
from tests.settings.conftest import CLIENT, Bench

CREDENTIALS = "CREDENTIALS_DIRECTORY"


def test_variables_reach_every_depth(bench: Bench) -> None:
    loaded = bench.load(
        CLIENT,
        {
            "REFRESHER_REDIS__URL": "redis://cache:6380/2",
            "REFRESHER_DAEMON__WORKERS": "7",
            "REFRESHER_DAEMON__STANDBY": "true",
            "REFRESHER_CLIENTS__acme__CLIENT_SECRET": "from-environment",
            "REFRESHER_CLIENTS__acme__SCOPE": "read, write",
            "REFRESHER_CLIENTS__acme__SURVIVE_OUTAGE": "15m",
            "REFRESHER_CLIENTS__acme__AUTHORIZATION_PARAMETERS__loginHint": "a@b",
            "REFRESHER_GRANTS__Shop_1__CLIENT": "acme",
            "REFRESHER_GRANTS__Shop_1__LABELS__SITE": "north",
        },
    )
    settings = loaded.settings
    client = settings.clients["acme"]
    assert settings.redis.location == "redis://cache:6380/2"
    assert (settings.daemon.workers, settings.daemon.standby) == (7, True)
    assert client.authentication.secret is not None
    assert client.authentication.secret.reveal() == "from-environment"
    assert client.scope == ("read", "write")
    assert client.policy.survive_outage == 900.0
    assert client.quirks.authorization_parameters == {"loginHint": "a@b"}
    assert settings.seeds[0].name == "Shop_1"
    assert settings.seeds[0].labels == {"site": "north"}
    assert loaded.secret_origins == {"clients.acme.client_secret": "environment"}


def test_each_layer_wins_over_the_next(bench: Bench, tmp_path: Path) -> None:
    file = "[redis]\nurl = 'redis://file'\nusername = 'file'\nprefix = 'file:'\npassword = 'file'\n"
    file += "[daemon]\nworkers = 3\n"
    for name in ("REFRESHER_REDIS__PASSWORD", "REFRESHER_REDIS__URL"):
        bench.write(f"secrets/{name}", "redis://secret\n")
    bench.write("credentials/REFRESHER_REDIS__URL", "redis://credential\n")
    loaded = bench.load(
        f'secrets_dir = "secrets"\n{file}',
        {
            CREDENTIALS: str(tmp_path / "credentials"),
            "REFRESHER_REDIS__USERNAME": "environment",
            "REFRESHER_REDIS__PREFIX": "environment:",
        },
        {"redis": {"username": "argument"}},
    )
    redis = loaded.settings.redis
    assert loaded.settings.daemon.workers == 3
    assert redis.username == "argument"
    assert redis.prefix == "environment:"
    assert redis.url.reveal() == "redis://credential"
    assert redis.password is not None
    assert redis.password.reveal() == "redis://secret"


def test_a_secret_of_one_layer_replaces_the_other(bench: Bench) -> None:
    bench.write("other", "from-file")
    text = CLIENT.replace('"acme-secret"', '{ command = ["false"] }')
    loaded = bench.load(text, {"REFRESHER_CLIENTS__acme__CLIENT_SECRET__FILE": "other"})
    secret = loaded.settings.clients["acme"].authentication.secret
    assert secret is not None
    assert secret.reveal() == "from-file"


def test_a_client_may_be_named_like_a_secret(bench: Bench) -> None:
    loaded = bench.load(CLIENT.replace("acme]", "url]"), {"REFRESHER_CLIENTS__url__RATE": "2"})
    assert loaded.settings.clients["url"].policy.rate == 2.0


def test_a_shorter_and_a_longer_name_clash(bench: Bench) -> None:
    name = "REFRESHER_CLIENTS__acme__CLIENT_SECRET"
    (problem,) = bench.problems(CLIENT, {name: "x", f"{name}__FILE": "y"})
    assert problem == f"environment {name}__FILE: the same key is set twice: keep one of the two"


def test_problems_name_the_variable(bench: Bench) -> None:
    (problem,) = bench.problems(CLIENT, {"REFRESHER_CLIENTS__acme__RATE": "fast"})
    assert problem.startswith("environment REFRESHER_CLIENTS__acme__RATE: clients.acme.rate must")


def test_an_unknown_variable_is_a_problem(bench: Bench) -> None:
    (problem,) = bench.problems(CLIENT, {"REFRESHER_REDS__URL": "x"})
    assert problem == "environment REFRESHER_REDS__URL: reds is no known key; did you mean redis?"


def test_service_variables_of_kubernetes_are_ignored(bench: Bench) -> None:
    environment = {"REFRESHER_PORT": "tcp://10.0.0.1:80", "REFRESHER_SERVICE_HOST": "10.0.0.1"}
    assert bench.load(CLIENT, environment).warnings == ()


def test_a_single_underscore_is_warned_of(bench: Bench) -> None:
    (warning,) = bench.load(CLIENT, {"REFRESHER_REDIS_URL": "x"}).warnings
    assert "did you mean REFRESHER_REDIS__URL?" in warning


def test_secret_directories_express_every_name(bench: Bench) -> None:
    bench.write("secrets/REFRESHER_CLIENTS__a-b.c__CLIENT_SECRET", "mounted\n")
    bench.write("secrets/unrelated", "\0\xff")
    text = CLIENT.replace("acme]", '"a-b.c"]').replace('client_secret = "acme-secret"', "")
    loaded = bench.load('secrets_dir = "secrets"\n' + text)
    secret = loaded.settings.clients["a-b.c"].authentication.secret
    assert secret is not None
    assert secret.reveal() == "mounted"
    assert loaded.secret_origins == {'clients."a-b.c".client_secret': "secret directory"}


def test_an_unreadable_secret_file_is_named(bench: Bench) -> None:
    (bench.folder / "secrets" / "REFRESHER_REDIS__PASSWORD").mkdir(parents=True)
    (problem,) = bench.problems('secrets_dir = "secrets"')
    assert problem.endswith("REFRESHER_REDIS__PASSWORD: is no regular file")


def test_the_secrets_directory_can_be_a_variable(bench: Bench) -> None:
    bench.write("mounted/REFRESHER_REDIS__PREFIX", "m:")
    loaded = bench.load("", {"REFRESHER_SECRETS_DIR": str(bench.folder / "mounted")})
    assert loaded.settings.redis.prefix == "m:"


def test_a_file_asked_for_must_exist(tmp_path: Path) -> None:
    missing = tmp_path / "missing.toml"
    for config, environment in [(missing, {}), (None, {"REFRESHER_CONFIG": str(missing)})]:
        with pytest.raises(SettingsError) as caught:
            load(config, environment=environment)
        assert caught.value.problems == [f"{missing}: cannot be read: No such file or directory"]


def test_the_local_file_is_found(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.write("refresher.toml", "[daemon]\nworkers = 3")
    monkeypatch.chdir(bench.folder)
    loaded = load(environment={})
    assert loaded.settings.daemon.workers == 3
    assert loaded.file == bench.folder / "refresher.toml"
    assert loaded.settings.vault.path == bench.folder / "refresher.db"
    assert loaded.settings.vault.key_file == bench.folder / "refresher.key"
    assert loaded.settings.control.socket == bench.folder / "refresher.sock"


def test_no_settings_at_all_says_where_it_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError) as caught:
        load(environment={"HOME": "/"})
    (problem,) = caught.value.problems
    for place in ("--config", "REFRESHER_CONFIG", str(tmp_path), "/etc/refresher", "init"):
        assert place in problem


def test_variables_alone_are_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    loaded = load(environment={"REFRESHER_GRANTS__key__STATIC_TOKEN": "canary"})
    assert loaded.file is None
    assert loaded.settings.vault.path == Path("/var/lib/refresher/vault.db")
    assert loaded.settings.seeds[0].access_token is not None
    assert "canary" not in "".join(loaded.summary())


def test_dotenv_files_are_not_read(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.write(".env", "REFRESHER_DAEMON__WORKERS=3\ndaemon=x\n")
    monkeypatch.chdir(bench.folder)
    assert bench.load("").settings.daemon.workers == 64


def test_a_second_load_reads_everything_again(bench: Bench) -> None:
    bench.write("acme", "first")
    text = CLIENT.replace('"acme-secret"', '{ file = "acme" }')
    first = bench.load(text).settings.clients["acme"].authentication.secret
    bench.write("acme", "second")
    second = bench.load(text + 'description = "new"').settings.clients["acme"]
    assert first is not None
    assert second.authentication.secret is not None
    assert (first.reveal(), second.authentication.secret.reveal()) == ("first", "second")
    assert second.description == "new"
