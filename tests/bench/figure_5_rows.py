"""What the table of figure 5 says of one size."""

from typing import Any

from tests.bench.session import Row

STEADY = 300

SHOWN = 100
"""Grants on a page of a list: what one turn of the vault builds."""

IN_FOUR_SECONDS = 100_000
"""Tokens that a flushed Redis is to have back so soon."""

Data = dict[str, Any]


def rows_of(size: int, found: Data) -> list[Row]:
    """What the table says of one size."""
    imported, start, idle, busy = (found[name] for name in ("import", "start", "idle", "busy"))
    reload = found["reload"]
    gaps, took = busy["without_exchange_s"], busy["took_s"]
    waited = busy["waited_s"]
    meanwhile = ", ".join(
        f"{name} {_seconds(gap)} (took {_seconds(took[name])}, {_seconds(waited[name])} of them "
        "without its core)"
        for name, gap in gaps.items()
    )
    looks = [each for each in found["all_due"].values() if each is not None]
    drained = "/".join(f"{each['times']:.2f}" for each in looks) or "-"
    cost = "/".join(f"{each['cpu_us']:.0f}" for each in looks)
    without = "/".join(_seconds(each["waited_s"]) for each in looks)
    return [
        Row(
            f"{size:,} import",
            f"{imported['per_second']:.0f} lines/s",
            ">= 5,000 lines/s; < 200 MiB",
            f"{imported['lines']:,} lines, {imported['cpu_us_a_line']:.0f} us of CPU each; command "
            f"{imported['command_mib']:.0f} MiB, daemon {imported['daemon_mib']:.0f} MiB at most; "
            f"vault {found['vault_bytes_a_grant']:.0f} bytes a grant",
        ),
        Row(
            f"{size:,} first exchange",
            f"{_seconds(start['warm'])} warm, {_seconds(start['cold'])} cold",
            "<= 1.5 s warm",
            f"{_seconds(start['warm_cpu'])} of CPU warm, {_seconds(start['warm_waited'])} without "
            f"its core; an empty Redis shows every token after {_seconds(start['published'])}",
        ),
        Row(
            f"{size:,} idle",
            f"{idle['cpu']:.1%} of a core, {idle['rss_mib']:.0f} MiB",
            "<= 2 %",
            "" if idle["is_settled"] else "it was still publishing everything",
        ),
        Row(
            f"{size:,} at {STEADY}/s",
            f"{busy['rss_mib']:.0f} MiB (at most {busy['most_mib']:.0f})",
            "<= 150 MiB",
            f"{busy['cpu_us_a_refresh']:.0f} us of CPU a refresh, commands included",
        ),
        Row(
            f"{size:,} scrape, page",
            f"{_seconds(took['scrape'])}, {_seconds(took['page'])}",
            "< 0.05 s each",
            f"/metrics, and {SHOWN} grants of a list",
        ),
        Row(
            f"{size:,} SIGHUP",
            f"{reload['cpu_s']:.2f} s of CPU",
            "< 1 s",
            f"with {reload['grants']:,} grants in the file; took {_seconds(reload['took_s'])}",
        ),
        Row(f"{size:,} without exchange", _seconds(gaps["status"]), "<= 0.1 s", meanwhile),
        Row(
            f"{size:,} FLUSHALL to all back",
            _seconds(busy["flushall_back_s"]),
            "<= 4 s" if size <= IN_FOUR_SECONDS else "",
            f"{busy['flushall_cpu_us_a_grant']:.0f} us of CPU a grant, exchanges included",
        ),
        Row(
            f"{size:,} all due",
            f"{drained} x",
            "<= 1.2 x",
            f"at the start/middle/end, by wall; {cost} us of CPU a refresh, start included; "
            f"{without} without its core",
        ),
    ]


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"
