"""What the table of figure 5 says of one size."""

from dataclasses import replace
from typing import Any

from tests.bench.session import Row

STEADY = 300

SHOWN = 100
"""Grants on a page of a list: what one turn of the vault builds."""

IN_FOUR_SECONDS = 100_000
"""Tokens that a flushed Redis is to have back so soon."""

Data = dict[str, Any]


def rows_of(size: int, found: Data) -> list[Row]:
    """What the table says of one size, of the steps that were measured."""
    tellers = {
        "import": _of_import,
        "start": _of_start,
        "idle": _of_idle,
        "busy": _of_busy,
        "reload": _of_reload,
        "all_due": _of_backlog,
    }
    rows = [row for name, tell in tellers.items() if name in found for row in tell(found[name])]
    if "vault_bytes_a_grant" in found:
        rows.append(Row("vault", f"{found['vault_bytes_a_grant']:.0f} bytes a grant"))
    if "busy" in found:
        back = found["busy"]["flushall_back_s"]
        cost = found["busy"]["flushall_cpu_us_a_grant"]
        rows.append(
            Row(
                "FLUSHALL to all back",
                _seconds(back),
                "<= 4 s" if size <= IN_FOUR_SECONDS else "",
                f"{cost:.0f} us of CPU a grant, exchanges included",
            )
        )
    return [replace(row, what=f"{size:,} {row.what}") for row in rows]


def _of_import(imported: Data) -> list[Row]:
    return [
        Row(
            "import",
            f"{imported['per_second']:.0f} lines/s",
            ">= 5,000 lines/s; < 200 MiB",
            f"{imported['lines']:,} lines, {imported['cpu_us_a_line']:.0f} us of CPU each, "
            f"{imported['daemon_us_a_line']:.0f} of them in the daemon; command "
            f"{imported['command_mib']:.0f} MiB, daemon {imported['daemon_mib']:.0f} MiB at most",
        )
    ]


def _of_start(start: Data) -> list[Row]:
    return [
        Row(
            "first exchange",
            f"{_seconds(start['warm'])} warm, {_seconds(start['cold'])} cold",
            "<= 1.5 s warm",
            f"{_seconds(start['warm_cpu'])} of CPU warm, {_seconds(start['warm_waited'])} without "
            f"its core; an empty Redis shows every token after {_seconds(start['published'])}",
        )
    ]


def _of_idle(idle: Data) -> list[Row]:
    settled = idle["settled_cpu_s"]
    told = (
        f"what Redis has was compared first, with {_seconds(settled)} of CPU"
        if settled is not None
        else "it still compared what Redis has"
    )
    return [Row("idle", f"{idle['cpu']:.1%} of a core, {idle['rss_mib']:.0f} MiB", "<= 2 %", told)]


def _of_busy(busy: Data) -> list[Row]:
    gaps, took, waited = busy["without_exchange_s"], busy["took_s"], busy["waited_s"]
    meanwhile = ", ".join(
        f"{name} {_seconds(gap)} (took {_seconds(took[name])}, {_seconds(waited[name])} of them "
        "without its core)"
        for name, gap in gaps.items()
    )
    return [
        Row(
            f"at {STEADY}/s",
            f"{busy['rss_mib']:.0f} MiB (at most {busy['most_mib']:.0f})",
            "<= 150 MiB",
            f"{busy['cpu_us_a_refresh']:.0f} us of CPU a refresh, commands included",
        ),
        Row(
            "scrape, page",
            f"{_seconds(took['scrape'])}, {_seconds(took['page'])}",
            "< 0.05 s each",
            f"/metrics, and {SHOWN} grants of a list",
        ),
        Row("without exchange", _seconds(gaps["status"]), "<= 0.1 s", meanwhile),
    ]


def _of_reload(reload: Data) -> list[Row]:
    return [
        Row(
            "SIGHUP",
            f"{reload['cpu_s']:.2f} s of CPU",
            "< 1 s",
            f"with {reload['grants']:,} grants in the file; took {_seconds(reload['took_s'])}",
        )
    ]


def _of_backlog(all_due: Data) -> list[Row]:
    looks = [each for each in all_due.values() if each is not None]
    drained = "/".join(f"{each['times']:.2f}" for each in looks) or "-"
    cost = "/".join(f"{each['cpu_us']:.0f}" for each in looks)
    without = "/".join(_seconds(each["waited_s"]) for each in looks)
    return [
        Row(
            "all due",
            f"{drained} x",
            "<= 1.2 x",
            f"at the start/middle/end, by wall; {cost} us of CPU a refresh, start included; "
            f"{without} without its core",
        )
    ]


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"
