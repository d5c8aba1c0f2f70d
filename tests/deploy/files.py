"""The files of the deployment, read the way their readers read them."""

import re
import shlex
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]


def unit_of(path: Path) -> dict[str, list[str]]:
    """Every setting of a unit file with its values in order; comments are dropped."""
    settings: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        if line and not line.startswith(("#", ";", "[")):
            name, _, value = line.partition("=")
            settings.setdefault(name.strip(), []).append(value.strip())
    return settings


def instructions_of(path: Path) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile, continued lines joined."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [
        (name.upper(), rest.strip())
        for name, _, rest in (line.partition(" ") for line in joined.splitlines() if line.strip())
    ]


def users_of(path: Path) -> dict[str, list[str]]:
    """The rules of every user in an ACL file."""
    rules = [shlex.split(line) for line in path.read_text().splitlines() if line[:5] == "user "]
    return {words[1]: words[2:] for words in rules}
