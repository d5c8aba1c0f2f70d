"""Secrets that are replaced where they are kept, and everything that can be wrong there."""

import os
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from refresher.app.secret_watch import SecretWatch
from refresher.domain.clients import Client
from refresher.logs import Event
from refresher.publication.server.connection import Address
from refresher.settings import load
from refresher.settings.model import Settings
from tests.publication.world import lines_of, logged
from tests.support.waiting import PATIENCE, eventually
from tests.vault.world import FakeClock

OLD, NEW = "canary-old-secret", "canary-new-secret"

CLIENT = """
[clients.{name}]
token_endpoint = "https://auth.example/token"
client_id = "{name}"
{secret}
"""


class World:
    """A folder with settings and a secret file, and the watch on both."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.secret = folder / "acme.secret"
        self.secret.write_text(f"{OLD}\n")
        self.clock = FakeClock()
        self.environment = {"PATH": os.defpath, "FOLDER": str(folder)}
        self.changed: list[Client] = []
        self.moved: list[Address] = []
        self.lines: list[Any] = []

    def load(
        self, secret: str = 'client_secret = { file = "acme.secret" }', more: str = ""
    ) -> Settings:
        file = self.folder / "refresher.toml"
        file.write_text(CLIENT.format(name="acme", secret=secret) + more)
        return load(file, environment=self.environment).settings

    @asynccontextmanager
    async def watching(self, settings: Settings) -> AsyncIterator[SecretWatch]:
        """A watch that looks all the time."""
        watch = SecretWatch(settings, self.clock, look_every=0.02)

        async def client_changed(client: Client) -> None:
            self.changed.append(client)

        async def address_changed(address: Address) -> None:
            self.moved.append(address)

        async def run() -> None:
            await watch.run(client_changed=client_changed, address_changed=address_changed)

        with logged() as self.lines:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(run)
                yield watch
                tasks.cancel_scope.cancel()

    @property
    def replaced(self) -> list[str]:
        return [line["setting"] for line in lines_of(self.lines, Event.SECRET_REPLACED)]

    @property
    def doubted(self) -> list[str]:
        return [line["reason"] for line in lines_of(self.lines, Event.SECRET_DOUBTED)]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def secret_of(watch: SecretWatch, client: str = "acme") -> str | None:
    secret = watch.clients[client].authentication.secret
    return secret.reveal() if secret else None


def rename_over(path: Path) -> None:
    new = path.with_name("new")
    new.write_text(NEW)
    new.replace(path)


def rewrite_in_place(path: Path) -> None:
    path.write_text(f"{NEW}\r\n")


def rewrite_with_the_times_of_before(path: Path) -> None:
    before = path.stat()
    path.write_text(f"{NEW}\n")  # as long as before
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def remove_and_write(path: Path) -> None:
    path.unlink()
    path.write_text(NEW)


def link_elsewhere(path: Path) -> None:
    (path.parent / "elsewhere").write_text(NEW)
    path.unlink()
    path.symlink_to("elsewhere")


@pytest.mark.parametrize(
    "replace",
    [
        rename_over,
        rewrite_in_place,
        rewrite_with_the_times_of_before,
        remove_and_write,
        link_elsewhere,
    ],
)
async def test_a_replaced_file_counts(world: World, replace: Callable[[Path], None]) -> None:
    async with world.watching(world.load()) as watch:
        before = watch.clients["acme"]
        assert await watch.reread(watch.clients["acme"], "invalid_client") is False
        replace(world.secret)
        await eventually(lambda: secret_of(watch) == NEW, "the new secret")
        assert world.replaced == ["clients.acme.client_secret"]
        await eventually(lambda: world.changed == [watch.clients["acme"]], "it is told")
        assert watch.clients["acme"].client_id == before.client_id
    assert not [line for line in world.lines if "canary" in str(line)]


@pytest.mark.parametrize("form", ["file", "credential", "secret directory"])
async def test_the_folder_that_kubernetes_swaps_is_followed(world: World, form: str) -> None:
    mount = world.folder / "mount"
    name = "REFRESHER_CLIENTS__acme__CLIENT_SECRET" if form == "secret directory" else "acme"

    def publish(version: str, secret: str) -> None:
        (mount / version).mkdir(parents=True)
        (mount / version / name).write_text(secret)
        (mount / "..data_tmp").symlink_to(version)
        (mount / "..data_tmp").replace(mount / "..data")

    publish("..1", OLD)
    (mount / name).symlink_to(f"..data/{name}")
    world.environment["REFRESHER_SECRETS_DIR"] = str(mount)
    source = {
        "file": f'client_secret = {{ file = "{mount}/acme" }}',
        "credential": 'client_secret = { credential = "acme" }',
        "secret directory": "",
    }[form]
    async with world.watching(world.load(source)) as watch:
        assert secret_of(watch) == OLD
        publish("..2", NEW)
        await eventually(lambda: secret_of(watch) == NEW, "the new secret")


def empty(path: Path) -> None:
    path.write_text("\n")


def remove(path: Path) -> None:
    path.unlink()


def garble(path: Path) -> None:
    path.write_bytes(b"\xff\xfe half a secret")


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def make_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def make_loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def open_to_all(path: Path) -> None:
    path.write_text("whoever wrote this")
    path.chmod(0o666)


def fill(path: Path) -> None:
    path.write_text("x" * 70_000)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (empty, "is empty"),
        (remove, "No such file"),
        (garble, "not UTF-8"),
        (make_folder, "no regular file"),
        (make_fifo, "no regular file"),
        (make_loop, "Too many levels of symbolic links"),
        (fill, "is larger than"),
        (open_to_all, "is writable by others"),
    ],
)
async def test_what_cannot_be_read_keeps_the_last_value(
    world: World, spoil: Callable[[Path], None], reason: str
) -> None:
    async with world.watching(world.load()) as watch:
        spoil(world.secret)
        await eventually(lambda: world.doubted, "it is told")
        assert await watch.reread(watch.clients["acme"], "invalid_client") is False
        assert secret_of(watch) == OLD
        if world.secret.is_dir():
            world.secret.rmdir()
        rename_over(world.secret)
        await eventually(lambda: secret_of(watch) == NEW, "the new secret")
        [told] = world.doubted
        assert reason in told
        empty(world.secret)
        await eventually(lambda: len(world.doubted) == 2, "it is told of another failure")
        assert secret_of(watch) == NEW


async def test_what_comes_back_as_it_was_is_no_change(world: World) -> None:
    async with world.watching(world.load()) as watch:
        world.secret.rename(world.folder / "away")
        await eventually(lambda: world.doubted, "it is told")
        (world.folder / "away").rename(world.secret)
        assert await watch.reread(watch.clients["acme"], "invalid_client") is False
        assert (world.replaced, world.changed) == ([], [])


async def test_a_secret_is_taken_when_it_was_written_to_its_end(world: World) -> None:
    pieces = [NEW[:5], NEW[5:9], NEW[9:12], NEW[12:]]
    async with world.watching(world.load()) as watch:
        seen: set[str | None] = set()
        with world.secret.open("w") as file:
            for piece in pieces:
                file.write(piece)
                file.flush()
                for _ in range(5):
                    await anyio.sleep(0.02)
                    seen.add(secret_of(watch))
        await eventually(lambda: secret_of(watch) == NEW, "the new secret")
        assert seen <= {OLD, NEW}


async def test_whoever_was_refused_is_told_what_is_there_now(world: World) -> None:
    watch = SecretWatch(world.load(), world.clock)
    refused = watch.clients["acme"]
    assert await watch.reread(refused, "invalid_client") is False
    rewrite_with_the_times_of_before(world.secret)
    assert await watch.reread(refused, "invalid_client") is True
    assert secret_of(watch) == NEW
    assert await watch.reread(watch.clients["acme"], "invalid_client") is False
    # Its request was under way when another one's refusal, or a look, brought the new one.
    assert await watch.reread(refused, "invalid_client") is True
    watch.clients.clear()
    assert await watch.reread(refused, "invalid_client") is False


async def test_all_who_ask_at_once_are_told_the_same(world: World) -> None:
    watch = SecretWatch(world.load(), world.clock)
    refused = watch.clients["acme"]
    rename_over(world.secret)
    answers: list[bool] = []

    async def ask() -> None:
        answers.append(await watch.reread(refused, "invalid_client"))

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(ask)
    assert answers == [True] * 5


@pytest.mark.parametrize("source", ['"literal"', '{ env = "ACME" }'])
async def test_what_cannot_change_is_not_looked_at(world: World, source: str) -> None:
    world.environment["ACME"] = OLD
    watch = SecretWatch(world.load(f"client_secret = {source}"), world.clock)
    world.environment["ACME"] = NEW
    assert await watch.reread(watch.clients["acme"], "invalid_client") is False


async def test_a_proxy_with_a_password_is_watched(world: World) -> None:
    proxy = world.folder / "proxy"
    proxy.write_text(f"http://me:{OLD}@proxy:3128")
    settings = world.load('client_secret = "x"\nproxy = { file = "proxy" }')
    async with world.watching(settings) as watch:
        proxy.write_text(f"ftp://me:{NEW}@proxy")
        await eventually(lambda: world.doubted, "it is told")
        assert watch.clients["acme"].route.proxy == f"http://me:{OLD}@proxy:3128"
        proxy.write_text(f"http://me:{NEW}@proxy:3128")
        await eventually(lambda: world.replaced, "it is replaced")
        assert watch.clients["acme"].route.proxy == f"http://me:{NEW}@proxy:3128"
        assert world.replaced == ["clients.acme.proxy"]
    assert not [line for line in world.lines if "canary" in str(line)]


async def test_the_password_of_redis_is_watched(world: World) -> None:
    settings = world.load(more='[redis]\nusername = "me"\npassword = { file = "acme.secret" }')
    async with world.watching(settings) as watch:
        assert watch.address.credentials == ("me", OLD)
        rename_over(world.secret)
        await eventually(lambda: world.moved == [watch.address], "it is told")
        assert watch.address.credentials == ("me", NEW)
        assert (await watch.reread_address()).credentials == ("me", NEW)


async def test_the_url_of_redis_is_watched(world: World) -> None:
    url = world.folder / "redis.url"
    url.write_text(f"redis://:{OLD}@one")
    settings = world.load(more='[redis]\nurl = { file = "redis.url" }')
    watch = SecretWatch(settings, world.clock)
    with logged() as world.lines:
        for unusable in ("http://one", "redis://", f"redis://one:{NEW}"):
            url.write_text(unusable)
            assert (await watch.reread_address()).url == f"redis://:{OLD}@one"
        url.write_text(f"redis://:{NEW}@two")
        assert (await watch.reread_address()).shown == "two:6379"
        assert watch.address.credentials == (NEW,)
    assert (len(world.doubted), world.replaced) == (1, ["redis.url"])
    assert not [line for line in world.lines if "canary" in str(line)]


async def test_a_new_url_of_redis_that_can_be_overheard_is_told(world: World) -> None:
    url = world.folder / "redis.url"
    url.write_text(f"rediss://:{OLD}@one")
    settings = world.load(more='[redis]\nurl = { file = "redis.url" }')
    watch = SecretWatch(settings, world.clock)
    with logged() as world.lines:
        for number, weak in enumerate(
            (f"rediss://:{NEW}@one?ssl_cert_reqs=none", f"redis://:{NEW}@one"), 1
        ):
            url.write_text(weak)
            assert (await watch.reread_address()).url == weak
            assert len(lines_of(world.lines, Event.SETTINGS_DOUBTED)) == number
    assert not [line for line in world.lines if "canary" in str(line)]


async def test_a_second_password_in_the_url_of_redis_is_refused(world: World) -> None:
    url = world.folder / "redis.url"
    url.write_text("redis://one")
    more = '[redis]\nurl = { file = "redis.url" }\npassword = { file = "acme.secret" }'
    watch = SecretWatch(world.load(more=more), world.clock)
    with logged() as world.lines:
        url.write_text(f"redis://:{NEW}@two")
        assert (await watch.reread_address()).shown == "one:6379"
    assert "given twice" in world.doubted[0]


def by_command(script: str) -> str:
    """A secret that is what SCRIPT prints; it counts its runs."""
    words = ["sh", "-c", f"cd $FOLDER; echo run >> runs; {script}"]
    return f"client_secret = {{ command = {words} }}"


def runs(world: World) -> int:
    return len((world.folder / "runs").read_text().split())


async def test_a_command_runs_when_asked_for_and_once_a_minute(world: World) -> None:
    async with world.watching(world.load(by_command("cat acme.secret"))) as watch:
        rename_over(world.secret)
        assert runs(world) == 1  # at the start
        assert await watch.reread(watch.clients["acme"], "invalid_client") is True
        assert (secret_of(watch), runs(world)) == (NEW, 2)
        world.secret.write_text("canary-third")
        for _ in range(3):
            assert await watch.reread(watch.clients["acme"], "invalid_client") is False
        assert runs(world) == 2
        world.clock.move(60)
        # It was asked for too early, so it runs by itself when its minute is over.
        await eventually(lambda: secret_of(watch) == "canary-third", "the third secret")
        world.clock.move(600)
        world.secret.write_text("canary-fourth")
        await anyio.sleep(0.2)
        assert runs(world) == 3
    assert not [line for line in world.lines if "canary" in str(line)]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (f"echo {NEW}; echo {NEW} >&2; exit 3", "exit code 3"),
        (":", "is empty"),
        ("printf '\\377'", "not UTF-8"),
        ("kill -9 $$", "exit code -9"),
    ],
    ids=["fails", "prints nothing", "prints no text", "is killed"],
)
async def test_a_command_that_fails_keeps_the_last_value(
    world: World, script: str, reason: str
) -> None:
    script = f"if test -e broken; then {script.replace(NEW, '$SECRET')}; else cat acme.secret; fi"
    world.environment["SECRET"] = NEW
    settings = world.load(by_command(script))
    (world.folder / "broken").touch()
    async with world.watching(settings) as watch:
        assert await watch.reread(watch.clients["acme"], "invalid_client") is False
        world.clock.move(61)
        assert await watch.reread(watch.clients["acme"], "invalid_client") is False
        assert secret_of(watch) == OLD
        [told] = world.doubted
        assert reason in told
        (world.folder / "broken").unlink()
        rename_over(world.secret)
        world.clock.move(61)
        assert await watch.reread(watch.clients["acme"], "invalid_client") is True
    assert not [line for line in world.lines if "canary" in str(line)]


async def test_a_slow_command_holds_up_nobody(world: World) -> None:
    slow = CLIENT.format(
        name="slow",
        secret=by_command("test -e slow && sleep 2; cat acme.secret"),
    )
    settings = world.load(more=slow)
    (world.folder / "slow").touch()
    async with world.watching(settings) as watch:
        rename_over(world.secret)
        answered: list[str] = []

        async def ask(client: str) -> None:
            assert await watch.reread(watch.clients[client], "invalid_client")
            answered.append(client)

        longest = 0.0
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, "slow")
            tasks.start_soon(ask, "acme")
            while len(answered) < 2:
                before = anyio.current_time()
                await anyio.sleep(0.01)
                longest = max(longest, anyio.current_time() - before)
        assert answered == ["acme", "slow"]
        assert secret_of(watch, "slow") == secret_of(watch) == NEW
        assert longest < 2  # the loop turned while the command slept


async def test_a_file_system_that_hangs_is_left_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (world.folder / "dead").mkdir()
    (world.folder / "dead" / "secret").write_text(OLD)
    more = CLIENT.format(name="dead", secret='client_secret = { file = "dead/secret" }')
    settings = world.load(more=more)
    is_mended = threading.Event()
    held: list[int] = []
    stat = Path.stat

    def hanging(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        if path.parent.name == "dead":
            held.append(threading.get_ident())
            is_mended.wait()
        return stat(path, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(Path, "stat", hanging)
    monkeypatch.setattr("refresher.app.secret_watch.FILES_WITHIN", 0.1)
    try:
        async with world.watching(settings) as watch:
            await eventually(lambda: world.doubted, "it is told")
            rename_over(world.secret)
            await eventually(lambda: secret_of(watch) == NEW, "the others are looked at")
            assert await watch.reread(watch.clients["dead"], "invalid_client") is False
            assert len(held) == 1  # one thread, however often it was asked for
            is_mended.set()
            (world.folder / "dead" / "secret").write_text(NEW)
            await eventually(lambda: secret_of(watch, "dead") == NEW, "it is looked at again")
        assert world.doubted == ["did not answer in time"]
    finally:
        is_mended.set()


async def test_threads_that_cannot_start_cost_a_look(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async with world.watching(world.load()) as watch:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            rename_over(world.secret)
            await eventually(lambda: world.doubted, "it is told")
            assert secret_of(watch) == OLD
        await eventually(lambda: secret_of(watch) == NEW, "the new secret")


async def test_settings_loaded_again_win_over_a_look_under_way(world: World) -> None:
    script = "test -e slow && sleep 1; cat acme.secret"
    settings = world.load(by_command(script))
    (world.folder / "slow").touch()
    async with world.watching(settings) as watch:
        rename_over(world.secret)
        answers: list[bool] = []

        async def ask() -> None:
            answers.append(await watch.reread(watch.clients["acme"], "invalid_client"))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await eventually(lambda: runs(world) == 2, "the command runs")
            (world.folder / "slow").unlink()
            watch.take_over(world.load('client_secret = "canary-of-the-file"'))
        assert answers == [True]  # it is another secret than the one that was refused
        assert secret_of(watch) == "canary-of-the-file"
        assert world.replaced == []


async def test_a_client_that_was_taken_out_is_forgotten(world: World) -> None:
    async with world.watching(world.load()) as watch:
        (world.folder / "refresher.toml").write_text('[redis]\nprefix = "x:"\n')
        watch.take_over(load(world.folder / "refresher.toml", environment={}).settings)
        rename_over(world.secret)
        await anyio.sleep(0.1)
        assert (watch.clients, world.lines) == ({}, [])


async def test_settings_loaded_again_are_watched(world: World) -> None:
    async with world.watching(world.load('client_secret = "literal"')) as watch:
        watch.take_over(world.load())
        assert secret_of(watch) == OLD
        rename_over(world.secret)
        await eventually(lambda: secret_of(watch) == NEW, "the new secret")


async def test_the_end_of_the_process_waits_for_no_file_system(world: World) -> None:
    script = f"""
import threading, anyio
from pathlib import Path
from refresher.app.secret_watch import SecretWatch
from refresher.clock import SystemClock
from refresher.settings import load
settings = load(Path({str(world.folder / "refresher.toml")!r}), environment={{}}).settings
Path.stat = lambda *_, **__: threading.Event().wait()
async def main():
    with anyio.move_on_after(0.2):
        watch = SecretWatch(settings, SystemClock())
        await watch.reread(watch.clients["acme"], "invalid_client")
anyio.run(main)
"""
    world.load()
    with anyio.fail_after(PATIENCE):
        await anyio.run_process([sys.executable, "-c", script])


SECOND = "second-client-secret"
TWO = f'client_secret = {{ file = "acme.secret" }}\nsecond_client_secret = "{SECOND}"'


def counting(watch: SecretWatch) -> str | None:
    password = watch.clients["acme"].authentication.password
    return password.reveal() if password else None


async def test_the_second_secret_counts_once_the_first_is_refused(world: World) -> None:
    async with world.watching(world.load(TWO)) as watch:
        refused = watch.clients["acme"]
        assert await watch.reread(refused, "unauthorized_client") is False, "of no secret"
        assert counting(watch) == OLD
        assert await watch.reread(refused, "invalid_client") is True
        assert counting(watch) == SECOND
        # Another one of its requests was under way: it is told, and nothing goes back.
        assert await watch.reread(refused, "invalid_client") is True
        assert counting(watch) == SECOND
        assert await watch.reread(watch.clients["acme"], "invalid_client") is False, "both are"
        assert counting(watch) == SECOND
        assert world.doubted == ["the server refuses it: second_client_secret counts now"]
        assert [client.name for client in world.changed] == ["acme"]


async def test_a_replaced_first_secret_counts_first_again(world: World) -> None:
    async with world.watching(world.load(TWO)) as watch:
        assert await watch.reread(watch.clients["acme"], "invalid_client") is True
        rename_over(world.secret)
        await eventually(lambda: counting(watch) == NEW, "the new secret")
        assert await watch.reread(watch.clients["acme"], "invalid_client") is True
        assert counting(watch) == SECOND
