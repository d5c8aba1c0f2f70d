"""``refresher run`` and ``refresher health``."""

import sys
from functools import partial

import click

from refresher import logs
from refresher.app.signals import Signals
from refresher.cli.calling import as_json_option, load_completely, run, tell
from refresher.cli.entry import RUN, Exit
from refresher.cli.saying import say
from refresher.ops.health import Probe, check_health
from refresher.settings.loading import load
from refresher.settings.model import Settings
from refresher.settings.secret_places import Needed
from refresher.settings.user import become_owner_of


@click.command(RUN)
@click.option("--standby", is_flag=True, help="Wait for the vault and take over at once.")
@click.pass_context
def run_command(context: click.Context, standby: bool) -> None:  # noqa: FBT001  click's flag
    """Run the daemon until SIGTERM.

    One daemon has a vault at a time; a second one exits and names the first, or waits
    with --standby. SIGTERM and SIGINT let exchanges in flight finish; SIGHUP reads the
    settings again.
    """
    signals = Signals.received()  # before the imports, which take most of the time of a start
    from refresher.app.standby import run_daemon  # noqa: PLC0415  `health` must not wait for it

    arguments = {"daemon": {"standby": True}} if standby else {}

    def read() -> Settings:
        return load(context.obj, arguments=arguments).settings

    loaded = load_completely(context.obj, arguments=arguments)
    settings = loaded.settings
    become_owner_of(settings.vault.path)
    logs.configure(level=settings.log.level, json_lines=settings.log.json_lines)
    for warning in loaded.warnings:
        logs.emit(logs.Event.SETTINGS_DOUBTED, reason=warning)
    signals.hold()
    run(partial(run_daemon, settings, read, signals=signals))


@click.command()
@click.option("--ready", is_flag=True, help="Ask whether it is ready, not only alive.")
@as_json_option
@click.pass_context
def health(context: click.Context, ready: bool, as_json: bool) -> None:  # noqa: FBT001  click's flags
    """Ask the running daemon how it is; exits 0 or 1.

    Alive means that it answers. Ready means also that the vault and Redis can be
    written. A container's health check should ask for the first: a daemon that cannot
    write must not be killed, it may hold the only copy of a refresh token.
    """
    settings = load(context.obj, needed=Needed.NONE).settings
    probe = Probe.READY if ready else Probe.LIVE
    verdict = run(partial(check_health, settings.control.socket, probe=probe))
    if not as_json:
        for reason in verdict.reasons:
            say(reason, err=True)
    result = {"ok": verdict.passed, "reasons": list(verdict.reasons)}
    tell(result, "ok" if verdict.passed else "failed", as_json=as_json)
    sys.exit(Exit.DONE if verdict.passed else Exit.FAILED)


COMMANDS = (run_command, health)
