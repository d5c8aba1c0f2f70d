"""A master loses its place while tokens are refreshed: the new one has every current token."""

from collections.abc import Callable

import anyio
import pytest

from refresher.logs import Event
from tests.publication.many_world import Work, at_work, consumed
from tests.publication.world import lines_of
from tests.support.many_servers import Watched, ask, running
from tests.support.waiting import eventually

GRANTS = 200


async def replaced(watched: Watched, work: Work, end: Callable[[], None]) -> None:
    """END the master's time; all that is current is at the next one."""
    before = watched.master().port
    await anyio.to_thread.run_sync(end)
    await eventually(lambda: watched.master().port != before, "another master")
    await anyio.sleep(0.2)  # tokens of now are made, and some are lost with the old one
    await work.all_current_at(lambda: [watched.master()])
    work.go()


async def test_whoever_takes_the_masters_place_gets_every_current_token() -> None:
    """After its death, and by order: then the old one acknowledges on, and drops it."""
    with running(Watched()) as watched:
        async with (
            at_work(watched.url, GRANTS) as (work, lines),
            consumed(work, watched.url, "grant-1") as heard,
        ):
            await replaced(watched, work, watched.master().kill)
            await replaced(watched, work, watched.fail_over)
            await work.all_current_at(lambda: [watched.master()])
        assert work.regressions == 0
        assert heard == sorted(set(heard), key=heard.index)
        assert None not in heard
        assert "another master" in lines_of(lines, Event.REDIS_MOVED)[-1]["reason"]


@pytest.mark.long
@pytest.mark.parametrize("how", ["frozen", "FAILOVER", "COORDINATED", "restarted empty"])
async def test_other_ways_to_lose_the_place(how: str) -> None:
    with running(Watched()) as watched:
        async with at_work(watched.url, GRANTS) as (work, _):
            master = watched.master()
            match how:
                case "frozen":
                    await replaced(watched, work, master.pause)
                    master.resume()
                case "FAILOVER":
                    ask(master, "FAILOVER")
                    replicas = [one for one in watched.servers if one is not master]
                    await eventually(
                        lambda: any(ask(one, "ROLE")[0] == b"master" for one in replicas),
                        "a replica that became the master",
                    )
                    await work.all_current_at(
                        lambda: [one for one in replicas if ask(one, "ROLE")[0] == b"master"]
                    )
                case "COORDINATED":
                    await replaced(watched, work, lambda: watched.fail_over("COORDINATED"))
                case _:
                    master.restart()
                    await work.all_current_at(lambda: [watched.master()])
        assert work.regressions == 0
