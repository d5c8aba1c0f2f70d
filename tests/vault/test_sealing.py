"""Sealing: nothing readable reaches the disk, and nothing sealed can be moved or altered."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from refresher.domain.grants import GrantState
from refresher.domain.outcomes import OutcomeUnknown
from refresher.domain.secret import Secret
from refresher.errors import VaultKeyError
from refresher.vault.schema import grants
from refresher.vault.sealing import KEY_BYTES, Fingerprinter, Keyring, Place
from refresher.vault.vault import Vault
from tests.canary import Canary
from tests.vault.world import (
    NOW,
    answered,
    at,
    claim_again,
    claim_one,
    finish,
    get,
    login_of,
    make_seed,
    opened,
    orphans,
    rescue,
    rooms,
    sow,
    static_seed,
)

OLD, NEW = bytes(KEY_BYTES), bytes(range(KEY_BYTES))


def test_what_is_sealed_opens_again() -> None:
    keyring = Keyring([OLD])
    sealed = keyring.seal(b"canary", Place("uid-1", "refresh_token"))
    assert b"canary" not in sealed
    assert keyring.open(sealed, Place("uid-1", "refresh_token")) == b"canary"


def test_sealing_twice_shows_no_likeness() -> None:
    keyring = Keyring([OLD])
    first, second = (keyring.seal(b"same", Place("uid", "c")) for _ in range(2))
    assert first[9:21] != second[9:21]
    assert first[21:] != second[21:]


@pytest.mark.parametrize(
    ("owner", "column"),
    [("uid-2", "refresh_token"), ("uid-1", "access_token")],
    ids=["another grant", "another column"],
)
def test_a_moved_value_does_not_open(owner: str, column: str) -> None:
    keyring = Keyring([OLD])
    sealed = keyring.seal(b"value", Place("uid-1", "refresh_token"))
    with pytest.raises(VaultKeyError, match=f"a sealed {column} in the vault.* altered"):
        keyring.open(sealed, Place(owner, column))


@pytest.mark.parametrize("place", [9, 20, 21, -1], ids=["nonce", "nonce end", "text", "tag"])
def test_an_altered_value_does_not_open(place: int) -> None:
    keyring = Keyring([OLD])
    sealed = bytearray(keyring.seal(b"value", Place("uid", "c")))
    sealed[place] ^= 1
    with pytest.raises(VaultKeyError, match="altered"):
        keyring.open(bytes(sealed), Place("uid", "c"))


@pytest.mark.parametrize("place", [0, 1], ids=["format", "key id"])
def test_a_value_of_another_key_is_told_apart(place: int) -> None:
    keyring = Keyring([OLD])
    sealed = bytearray(keyring.seal(b"value", Place("uid", "c")))
    sealed[place] ^= 1
    with pytest.raises(VaultKeyError, match="another key than the one configured"):
        keyring.open(bytes(sealed), Place("uid", "c"))


def test_the_first_key_seals_and_all_open() -> None:
    before = Keyring([OLD]).seal(b"value", Place("uid", "c"))
    both = Keyring([NEW, OLD])
    after = both.seal(b"value", Place("uid", "c"))
    assert both.open(before, Place("uid", "c")) == b"value"
    assert Keyring([NEW]).open(after, Place("uid", "c")) == b"value"


def test_fingerprints_recognize_and_reveal_nothing() -> None:
    fingerprint = Fingerprinter(b"k" * 32)
    assert fingerprint(Secret("rt-1")) == fingerprint(Secret("rt-1"))
    assert fingerprint(Secret("rt-1")) != fingerprint(Secret("rt-2"))
    assert fingerprint(Secret("rt-1")) != Fingerprinter(b"q" * 32)(Secret("rt-1"))
    assert len(fingerprint(Secret("rt-1"))) == 16


async def test_a_row_copied_over_another_does_not_open(vault: Vault) -> None:
    """Whoever can write the file cannot give one grant the refresh token of another."""
    await sow(vault, make_seed("rich", "rt-rich"), make_seed("poor", "rt-poor"))
    sealed = sa.select(grants.c.refresh_token_sealed).where(grants.c.name == "rich")
    await vault._database.write(
        lambda c: c.execute(
            sa.update(grants)
            .where(grants.c.name == "poor")
            .values(refresh_token_sealed=sealed.scalar_subquery())
        )
    )
    assert await vault.claim(rooms(crm=1), 1, only="poor") == []
    [poor] = [grant for grant in await vault.grants() if grant.name == "poor"]
    assert (poor.state, poor.reason, poor.intent) == (GrantState.PAUSED, "unreadable", None)
    assert (await claim_one(vault, NOW, "rich")).renewal.presents == Secret("rt-rich")


def leaks(folder: Path, canary: Canary) -> dict[str, set[str]]:
    """The secrets that can be read in the files of FOLDER, by file."""
    files = [path for path in folder.iterdir() if path.name != "key"]
    assert {"vault.db", "vault.db.rescue"} <= {path.name for path in files}
    found = {path.name: canary.found_in(path.read_bytes()) for path in files}
    return {name: secrets for name, secrets in found.items() if secrets}


async def test_no_secret_reaches_the_disk_readable(tmp_path: Path, canary: Canary) -> None:
    """Every way a secret gets into the vault, then every byte of every file (G5)."""
    plant = canary.plant
    async with opened(tmp_path) as vault:
        await sow(
            vault,
            make_seed("acme", plant("seed"), access_token=Secret(plant("imported"))),
            static_seed("pat", plant("static")),
        )
        earlier = await claim_one(vault)
        later = await claim_again(vault)
        await finish(vault, later, answered(plant("access"), plant("refresh")))
        late = answered(plant("late-access"), plant("late-refresh"), extras={"x": plant("extra")})
        await finish(vault, earlier, late)
        await at(vault, NOW + 60).request_refresh("acme")
        body = plant("body").encode()
        odd = OutcomeUnknown(reason="unreadable", status=200, body=b"<p>" + body)
        await finish(vault, await claim_one(vault, NOW + 60), odd, NOW + 60)
        change = login_of(await get(vault), answered(plant("login"), plant("login-refresh")))
        await at(vault, NOW).authorize("acme", change)
        token = Secret(plant("set"))
        await at(vault, NOW).set_token("pat", token, expires_at=None, token_type="Bearer")
        await rescue(vault, plant("rescued").encode())
        assert len(await orphans(vault)) == 1
        assert canary.found_in(token.reveal().encode() + b" " + body)
        assert leaks(tmp_path, canary) == {}  # what was written last is in the WAL
    assert leaks(tmp_path, canary) == {}
