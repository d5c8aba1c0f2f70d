"""CA bundles that are replaced while the daemon runs."""

import io
import os
from pathlib import Path

import pytest

from refresher import logs
from refresher.domain.outcomes import NotSent, Outcome, Refreshed
from refresher.domain.renewal import RefreshToken
from refresher.domain.secret import Secret
from refresher.oauth.patience import Patience
from refresher.oauth.token_endpoint import TokenEndpoint
from refresher.oauth.transport.trust import Trust
from tests.oauth.world import (
    TOKENS,
    answering,
    http_answer,
    make_certificate,
    make_client,
    server_context,
)
from tests.support.log_output import LogOutput


@pytest.fixture
def right(tmp_path: Path) -> Path:
    return make_certificate(tmp_path)


@pytest.fixture
def wrong(tmp_path: Path) -> Path:
    return make_certificate(tmp_path, host="other.example")


@pytest.fixture
def log() -> io.StringIO:
    logs.configure(output=(output := LogOutput()), json_lines=True)
    return output


def certificate(pem: Path) -> bytes:
    content = pem.read_bytes()
    return content[content.index(b"-----BEGIN CERT") :]


async def refresh(endpoint: TokenEndpoint, url: str, bundle: Path) -> Outcome:
    """One exchange over a new connection."""
    client = make_client(url, ca_bundle=str(bundle))
    return await endpoint.refresh(client, RefreshToken(Secret("RT")), patience=Patience(5))


async def test_a_bundle_that_is_written_anew_counts_at_once(
    tmp_path: Path, right: Path, wrong: Path
) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(certificate(wrong))
    async with (
        answering(http_answer(TOKENS), tls=server_context(right)) as raw,
        TokenEndpoint() as endpoint,
    ):
        assert isinstance(await refresh(endpoint, raw.url, bundle), NotSent)
        bundle.write_bytes(certificate(right))
        assert isinstance(await refresh(endpoint, raw.url, bundle), Refreshed)


async def test_a_symlink_that_is_swapped_counts_at_once(
    tmp_path: Path, right: Path, wrong: Path
) -> None:
    """As Kubernetes and Vault agents do; both files have the same time and size."""
    for name, source in (("a", wrong), ("b", right)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "ca.pem").write_bytes(certificate(source).ljust(700, b"\n"))
        os.utime(folder / "ca.pem", ns=(1, 1))
    data = tmp_path / "..data"
    data.symlink_to("a")
    async with (
        answering(http_answer(TOKENS), tls=server_context(right)) as raw,
        TokenEndpoint() as endpoint,
    ):
        assert isinstance(await refresh(endpoint, raw.url, data / "ca.pem"), NotSent)
        (tmp_path / "new").symlink_to("b")
        (tmp_path / "new").replace(data)
        assert isinstance(await refresh(endpoint, raw.url, data / "ca.pem"), Refreshed)


@pytest.mark.parametrize("length", [0, 1, 26, 200, -1, -40, -300, -480])
def test_half_a_bundle_keeps_the_whole_one(
    tmp_path: Path, right: Path, wrong: Path, log: io.StringIO, length: int
) -> None:
    """Written over in place, and looked at meanwhile. OpenSSL takes some of them."""
    bundle, trust = tmp_path / "bundle.pem", Trust()
    whole = (certificate(right) + certificate(wrong)).rstrip()
    bundle.write_bytes(whole)
    good = trust.context(str(bundle))
    bundle.write_bytes(whole[:length])
    for _ in range(3):
        assert trust.context(str(bundle)) is good
    assert log.getvalue().count("settings.doubted") == 1
    assert str(bundle) in log.getvalue()


@pytest.mark.parametrize("length", [1, 26, 200, -1, -40, -300, -480])
def test_half_a_bundle_is_none_at_first(
    tmp_path: Path, right: Path, wrong: Path, length: int
) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes((certificate(right) + certificate(wrong)).rstrip()[:length])
    with pytest.raises((OSError, ValueError)):
        Trust().context(str(bundle))


@pytest.mark.parametrize("how", ["removed", "unreadable", "no certificate", "a folder"])
def test_a_bundle_that_went_away_keeps_the_last_one(
    tmp_path: Path, right: Path, log: io.StringIO, how: str
) -> None:
    bundle, trust = tmp_path / "bundle.pem", Trust()
    bundle.write_bytes(certificate(right))
    good = trust.context(str(bundle))
    bundle.unlink()
    if how == "no certificate":
        bundle.write_bytes(b"<html>Service unavailable</html>")
    elif how == "a folder":
        bundle.mkdir()
    elif how == "unreadable":
        bundle.symlink_to(bundle)
    for _ in range(3):
        assert trust.context(str(bundle)) is good
    assert log.getvalue().count("settings.doubted") == 1


def test_a_bundle_that_comes_back_counts_again(tmp_path: Path, right: Path, wrong: Path) -> None:
    bundle, trust = tmp_path / "bundle.pem", Trust()
    bundle.write_bytes(certificate(right))
    good = trust.context(str(bundle))
    assert trust.context(str(bundle)) is good
    bundle.write_bytes(b"")
    assert trust.context(str(bundle)) is good
    bundle.write_bytes(certificate(wrong))
    assert trust.context(str(bundle)) is not good


def test_a_fifo_in_the_place_of_a_bundle_stops_nothing(tmp_path: Path, right: Path) -> None:
    bundle, trust = tmp_path / "bundle.pem", Trust()
    bundle.write_bytes(certificate(right))
    good = trust.context(str(bundle))
    bundle.unlink()
    os.mkfifo(bundle)
    assert trust.context(str(bundle)) is good
    with pytest.raises(ValueError, match="no regular file"):
        Trust().context(str(bundle))


@pytest.mark.parametrize("end", [b"", b"\n", b"\n\n# the company's own\n", b"\r\n"])
def test_whole_bundles_are_taken(tmp_path: Path, right: Path, wrong: Path, end: bytes) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes("# größer\n".encode() + certificate(right) + certificate(wrong) + end)
    assert len(Trust().context(str(bundle)).get_ca_certs()) == 2


async def test_an_open_connection_is_not_used_under_another_bundle(
    tmp_path: Path, right: Path, wrong: Path
) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(certificate(right))
    async with (
        answering(http_answer(TOKENS), tls=server_context(right)) as raw,
        TokenEndpoint() as endpoint,
    ):
        assert isinstance(await refresh(endpoint, raw.url, bundle), Refreshed)
        bundle.write_bytes(certificate(wrong))
        assert isinstance(await refresh(endpoint, raw.url, bundle), NotSent)
