"""Install the service on a fresh Debian as ``deploy/README.md`` says, and boot it.

A root is made with mmdebstrap and booted with systemd-nspawn; in it ``machine.py`` types
the commands of the page and looks at what became of them. Needs root, both programs and
registries of Debian and Python; everything is in a temporary folder and gone afterwards.
Exits 1 if a step went wrong.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
PACKAGES = ("systemd-sysv", "dbus", "python3-venv", "redis-server", "sudo")
MACHINE = Path(__file__).with_name("machine.py")
HOST = "fresh"

BOOT_WITHIN = 900.0
"""Seconds until a machine that has not shut itself down counts as hanging."""

UNIT = """\
[Unit]
After=multi-user.target
[Service]
Type=oneshot
StandardOutput=journal+console
ExecStart=/usr/bin/python3 /srv/machine.py
ExecStopPost=/usr/bin/systemctl --no-block poweroff
[Install]
WantedBy=graphical.target
"""


def page_commands() -> str:
    """The commands of the section on systemd, as they stand on the page."""
    page = (CHECKOUT / "deploy" / "README.md").read_text()
    section = page.partition("## Under systemd")[2]
    found = re.search(r"^```sh\n(.*?)^```$", section, flags=re.MULTILINE | re.DOTALL)
    assert found is not None, "the page shows how to install"
    return found[1]


def run(*command: str | Path, within: float | None = None) -> None:
    """Run COMMAND with its output here; raises if it fails."""
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, timeout=within)


def make_root(root: Path) -> None:
    """A fresh Debian with the checkout and all it needs in /srv, and no network to get more."""
    mirror_options = ["--variant=minbase", f"--include={','.join(PACKAGES)}", "--quiet"]
    run("mmdebstrap", *mirror_options, "bookworm", root)
    wheels, source = root / "srv" / "wheels", root / "srv" / "refresher"
    run("git", "clone", "--quiet", CHECKOUT, source)
    pip = (sys.executable, "-m", "pip", "wheel", "-qq", "--disable-pip-version-check")
    # Debian's Python is older than most that run this, and needs one package more.
    run(*pip, "--wheel-dir", wheels, source, "hatchling", "async-timeout")
    (root / "etc/hosts").write_text(f"127.0.0.1 localhost {HOST}\n")
    (root / "etc/pip.conf").write_text("[global]\nno-index = true\nfind-links = /srv/wheels\n")
    (root / "srv" / "commands").write_text(page_commands())
    (root / "etc/systemd/system/machine.service").write_text(UNIT)
    wants = root / "etc/systemd/system/graphical.target.wants"
    wants.mkdir(exist_ok=True)
    (wants / "machine.service").symlink_to("/etc/systemd/system/machine.service")


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, help="where the fresh root is kept for another run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="refresher-boot-") as folder:
        fresh, root = (options.keep or Path(folder)) / "fresh", Path(folder) / "root"
        if not fresh.exists():
            make_root(fresh)
        run("cp", "--archive", fresh, root)
        shutil.copy(MACHINE, root / "srv" / "machine.py")
        booting = ("--boot", "--keep-unit", "--register=no", "--quiet", "--console=pipe")
        where = (f"--directory={root}", f"--hostname={HOST}")
        run("systemd-nspawn", *booting, *where, within=BOOT_WITHIN)
        results = (root / "srv" / "results").read_text()
    steps = [json.loads(line) for line in results.splitlines()]
    for step in steps:
        sys.stdout.write(f"{'ok    ' if step['ok'] else 'FAILED'} {step['step']}: {step['told']}\n")
    return 0 if steps and steps[-1]["step"] == "end" and all(s["ok"] for s in steps) else 1


if __name__ == "__main__":
    sys.exit(main())
