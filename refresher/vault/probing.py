"""What a look at a vault that is shared has found, before or beside a daemon."""

from collections.abc import Iterator
from pathlib import Path

from refresher.domain.findings import Finding, Level
from refresher.domain.secret import Secret
from refresher.vault.postgresql.probing import probe as probe_server

FLEETING = frozenset({"overlay", "aufs", "tmpfs", "ramfs"})
"""File systems that end with their container, or with the machine's next start."""

_MOUNTS = Path("/proc/self/mounts")


async def probe(url: Secret, where: str, folder: Path) -> list[Finding]:
    """What is found of the database of URL, at WHERE, and of the FOLDER of the rescue file."""
    return [*await probe_server(url, where), *judged_folder(folder)]


def judged_folder(folder: Path) -> Iterator[Finding]:
    """Whether the successor of a daemon gets what this one keeps in FOLDER."""
    kind = _file_system(folder)
    if kind in FLEETING:
        yield Finding(
            subject=f"folder {folder}",
            text=f"is on {kind}, which ends with its container or machine: an answer that the "
            "database did not take, and the rescue file did, would be lost",
            level=Level.DOUBT,
            mend="mount a volume there that the next daemon in this one's place gets",
        )


def _file_system(folder: Path) -> str | None:
    """The kind of file system of FOLDER; None where nobody knows."""
    try:
        mounts = [line.split()[1:3] for line in _MOUNTS.read_text("utf-8", "replace").splitlines()]
    except OSError:  # not Linux
        return None
    above = [(place, kind) for place, kind in mounts if folder.is_relative_to(place)]
    # The last one mounted at a place hides those before.
    return max(enumerate(above), key=lambda one: (len(one[1][0]), one[0]))[1][1] if above else None
