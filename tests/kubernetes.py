"""Render ``deploy/kubernetes`` and judge it: ``python -m tests.kubernetes``, which needs kubectl.

What kubectl's kustomize makes of the folder, and of the one with replicas, must be strictly
valid, by the schemas of each release of Kubernetes that is named here. Anything that either
program says beside that is a failure. Prints one JSON line.
"""

import itertools
import json
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "deploy" / "kubernetes"
FOLDERS = (FOLDER, FOLDER.with_name("kubernetes-replicas"))

RELEASES = ("1.29", "1.33", "1.37")
"""An old one, the newest that the package knows, and one between."""


def run(*command: str, given: str | None = None) -> str:
    """Run COMMAND, which must succeed and complain of nothing; what it printed."""
    done = subprocess.run(command, check=False, input=given, capture_output=True, text=True)
    complaint = done.stderr.strip()
    assert done.returncode == 0, f"{command}: {done.stdout}{complaint}"
    assert not complaint, f"{command}: {complaint}"
    return done.stdout


def main() -> int:
    """Run from the command line."""
    program = (sys.executable, "-m", "kubernetes_validate", "--strict")
    passed = 0
    for folder, release in itertools.product(FOLDERS, RELEASES):
        rendered = run("kubectl", "kustomize", str(folder))
        lines = run(*program, f"--kubernetes-version={release}", "-", given=rendered).splitlines()
        for line in lines:
            assert line.startswith("INFO "), line
            assert " passed " in line, line
        assert len(lines) == rendered.count("\n---\n") + 1
        passed += len(lines)
    sys.stdout.write(json.dumps({"releases": RELEASES, "passed": passed}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
