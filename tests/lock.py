"""Lock what the image is made of: ``python3.13 -m tests.lock``.

Rewrites ``deploy/requirements.txt``, what the daemon needs whatever its vault lies in, and
``deploy/build-requirements.txt``, what makes its wheel: the newest releases that
``pyproject.toml`` allows, each with its hashes, and no address of a registry. Which one is
asked is pip's own configuration. pip-tools come into a venv that is gone afterwards.
"""

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
RUNNING = CHECKOUT / "deploy" / "requirements.txt"
BUILDING = CHECKOUT / "deploy" / "build-requirements.txt"

PYTHON = (3, 13)
"""That of the image: others need other packages."""

COMMAND = "python3.13 -m tests.lock"
"""What the head of each file says."""

COMPILE = (
    *("pip-compile", "--quiet", "--upgrade", "--generate-hashes", "--no-emit-options"),
    *("--strip-extras", "--allow-unsafe", "--no-annotate", "pyproject.toml"),
)


def main() -> int:
    """Run from the command line."""
    if sys.version_info[:2] != PYTHON:
        sys.stderr.write(f"the image has another Python: {COMMAND}\n")
        return 1
    with tempfile.TemporaryDirectory(prefix="refresher-lock-") as folder:
        venv.create(folder, with_pip=True)
        programs = Path(folder, "bin")
        subprocess.run([programs / "pip", "install", "--quiet", "pip-tools"], check=True)
        program, *options = COMPILE
        for target, what in (
            (RUNNING, ("--extra=postgresql",)),
            (BUILDING, ("--build-deps-for=wheel", "--only-build-deps")),
        ):
            subprocess.run(
                [programs / program, *options, *what, f"--output-file={target}"],
                check=True,
                cwd=CHECKOUT,
                env={**os.environ, "CUSTOM_COMPILE_COMMAND": COMMAND},
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
