"""What a look says of a server that may lose what it has confirmed, and of a folder."""

from pathlib import Path

import pytest

from refresher.domain.findings import Level
from refresher.domain.secret import Secret
from refresher.vault import probing
from refresher.vault.postgresql.probing import Server, judged
from tests.support.postgresql import PrivatePostgres


def levels(server: Server) -> dict[Level, list[str]]:
    found: dict[Level, list[str]] = {level: [] for level in Level}
    for finding in judged(server, "vault"):
        found[finding.level].append(finding.text)
        assert (finding.mend is None) == (finding.level is Level.GOOD)
    return found


@pytest.mark.parametrize(
    ("server", "level", "text"),
    [
        (Server(version="18", fsync=False), Level.PROBLEM, "has fsync off"),
        (Server(version="18", full_page_writes=False), Level.PROBLEM, "has full_page_writes off"),
        (Server(version="18", standbys=1), Level.DOUBT, "a failover may lose"),
        (Server(version="18", is_pooled=True), Level.DOUBT, "is behind a pooler"),
    ],
)
def test_what_may_lose_commits_is_named(server: Server, level: Level, text: str) -> None:
    [found] = levels(server)[level]
    assert text in found


def test_a_server_that_keeps_all_is_good() -> None:
    found = levels(Server(version="18", standbys=2, is_synchronous=True))
    assert found == {Level.GOOD: ["answers, version 18"], Level.DOUBT: [], Level.PROBLEM: []}


async def test_a_real_server_is_asked(tmp_path: Path, postgres: PrivatePostgres) -> None:
    """The one of the tests keeps nothing for certain."""
    found = await probing.probe(Secret(postgres.url()), "here", tmp_path)
    texts = [finding.text for finding in found if finding.level is Level.PROBLEM]
    assert [text.split(":")[0] for text in texts] == ["has fsync off", "has full_page_writes off"]
    unreached, *_ = await probing.probe(Secret("postgresql://127.0.0.1:1/"), "there", tmp_path)
    assert unreached.level is Level.PROBLEM


@pytest.mark.parametrize(
    ("mounts", "levels_of"),
    [
        ("overlay / overlay rw 0 0\n", [Level.DOUBT]),
        ("overlay / overlay rw 0 0\n/dev/sda /data ext4 rw 0 0\n", []),
        ("/dev/sda / ext4 rw 0 0\ntmpfs /data tmpfs rw 0 0\n", [Level.DOUBT]),
        ("overlay / overlay rw 0 0\n/dev/sda /dat ext4 rw 0 0\n", [Level.DOUBT]),
    ],
)
def test_a_folder_that_ends_with_its_container_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mounts: str, levels_of: list[Level]
) -> None:
    (tmp_path / "mounts").write_text(mounts)
    monkeypatch.setattr(probing, "_MOUNTS", tmp_path / "mounts")
    assert [one.level for one in probing.judged_folder(Path("/data"))] == levels_of
