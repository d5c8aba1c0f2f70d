"""The parts of the benchmark, and one tiny round of it; it installs nothing."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.bench import contenders, figure_6, ratios
from tests.bench import ground as bench_ground
from tests.bench.__main__ import Options, measure, read_options
from tests.bench.contenders import Peer, peer, pipeline
from tests.bench.figure_5_rows import Data, rows_of
from tests.bench.ground import ROOT, NotMeasured, Window, alternate, percentile, ratio
from tests.bench.peers.endpoint import Books, refresh_token
from tests.bench.plots import draw
from tests.bench.processes import Ground
from tests.bench.report import as_json, table
from tests.bench.session import WHOLE, Bar, Found, Row


@pytest.fixture
def ground() -> Iterator[Ground]:
    ground = Ground(Path(sys.executable), in_flight=8)
    yield ground
    ground.close()


def window(cpu_us: float, wall_us: float = 100.0) -> Window:
    return Window(answers=1_000, cpu=cpu_us / 1e3, wall=wall_us / 1e3, endpoint_cpu=0.01)


def test_options_name_figures_depth_and_output(tmp_path: Path) -> None:
    read = read_options(["--quick", "--only", "1,6", "--json", "--plots", str(tmp_path)])
    assert read == Options(quick=True, figures=[1, 6], json=True, plots=tmp_path)
    assert read_options([]).figures == list(range(1, 11))
    assert read_options(["--sizes", "1000,20000"]).depth.sizes == (1_000, 20_000)
    assert read_options(["--steps", "start,idle"]).depth.steps == ("start", "idle")
    assert read_options([]).depth == WHOLE
    with pytest.raises(SystemExit):
        read_options(["--steps", "sleep"])


def test_the_table_of_a_size_tells_the_steps_that_were_measured() -> None:
    found: Data = {"idle": {"cpu": 0.01, "rss_mib": 99.0, "settled_cpu_s": None}}
    (row,) = rows_of(1_000, found)
    assert (row.what, row.measured) == ("1,000 idle", "1.0% of a core, 99 MiB")
    found["reload"] = {"cpu_s": 0.5, "grants": 1_000, "took_s": None}
    assert [row.what for row in rows_of(1_000, found)] == ["1,000 idle", "1,000 SIGHUP"]


@pytest.mark.parametrize("wrong", ["0", "11", "one", ""])
def test_a_figure_that_does_not_exist_is_refused(wrong: str) -> None:
    with pytest.raises(SystemExit):
        read_options(["--only", wrong])


def test_a_ratio_is_of_medians_by_cpu_and_more_is_faster() -> None:
    ours = [window(200.0, 400.0), window(100.0, 200.0), window(90.0, 100.0)]
    theirs = [window(50.0, 100.0), window(50.0, 100.0), window(20.0, 50.0)]
    found = ratio(ours, theirs)
    assert found.by_cpu == pytest.approx(0.5)
    assert found.by_wall == pytest.approx(0.5)
    assert found.headroom == pytest.approx(5.0)


def test_contenders_take_turns_and_no_place_in_a_round_is_one_contenders() -> None:
    order: list[str] = []

    def runs(name: str) -> Window:
        order.append(name)
        return window(1.0)

    alternate({"a": lambda: runs("a"), "b": lambda: runs("b")}, 3, lambda _: None)
    assert order == ["a", "b", "b", "a", "a", "b"]


def test_json_has_the_figures_by_number_and_a_reason_for_what_is_missing() -> None:
    found = ratio([window(200.0)], [window(50.0)])
    figures = {
        1: Found([], ratios.data(found)),
        3: Found([], {"go_store": ratios.data("no Go"), "go": ratios.data(found)}),
    }
    printed = as_json(figures)
    assert "\n" not in printed
    read = json.loads(printed)
    assert list(read) == ["figures"]
    assert list(read["figures"]) == ["1", "3"]
    assert read["figures"]["1"]["ratio"] == 0.25
    assert read["figures"]["3"]["go_store"] == {"ratio": None, "not_measured": "no Go"}


def test_a_figure_that_cannot_be_had_says_why() -> None:
    class Missing:
        @staticmethod
        def measure(_: object) -> Found:
            raise NotMeasured("no such thing here")

    found = measure(None, Missing)  # type: ignore[arg-type]  # neither is looked at
    assert "no such thing here" in table(found.rows)
    assert found.data["not_measured"] == "no such thing here"


def test_the_table_is_in_columns() -> None:
    lines = table([Row("a", "1.0", ">= 1", "more of it"), Row("long name", "0.25")]).splitlines()
    assert [line.find("1.0") for line in lines[1:2]] == [lines[0].find("measured")]
    assert lines[2].strip() == "more of it"
    assert lines[3].index("0.25") == lines[0].index("measured")


def test_percentiles_are_between_the_values() -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], 0.5) == 2.5
    assert percentile([5.0], 0.99) == 5.0
    with pytest.raises(NotMeasured):
        percentile([], 0.5)


def test_a_plot_has_a_bar_for_each_value_and_a_line_for_each_goal(tmp_path: Path) -> None:
    bars = [Bar("a < b", 0.5, goal=1.0), Bar("c", 2.0), Bar("none", 0.0)]
    draw(tmp_path / "plot.svg", "title & more", "unit", bars)
    root = ET.parse(tmp_path / "plot.svg").getroot()  # noqa: S314  our own
    kinds = [element.tag.rpartition("}")[2] for element in root]
    assert kinds.count("rect") == 1 + len(bars)
    assert kinds.count("line") == 1


def test_a_profile_tells_rooms_and_our_innermost_function(tmp_path: Path) -> None:
    ours, theirs = f"{ROOT}/refresher/vault/claims.py", "/x/site-packages/sqlalchemy/engine/base.py"
    (tmp_path / "stacks").write_text(f"<module> (x.py:1);claim ({ours}:9);execute ({theirs}:1) 3\n")
    stacks = figure_6.read_stacks(tmp_path / "stacks")
    assert stacks == {(("x.py", "<module>"), (ours, "claim"), (theirs, "execute")): 3}
    [stack] = stacks
    assert [figure_6.room(file) for file, _ in stack[1:]] == ["refresher vault", "sqlalchemy"]
    assert figure_6.last_of_ours(stack) == "vault/claims.py claim"


def test_the_endpoint_rotates_and_counts_a_token_that_is_not_the_last() -> None:
    books = Books()
    first = b"grant_type=refresh_token&refresh_token=" + refresh_token(7, 0).encode()
    answer = json.loads(books.exchange(first).partition(b"\r\n\r\n")[2])
    assert answer["refresh_token"] == refresh_token(7, 1)
    assert books.exchange(first).startswith(b"HTTP/1.1 400")
    assert (books.answered, books.wrong, books.marks[0]) == (1, 1, 7)


def test_a_limited_endpoint_saves_nothing_up_before_it_begins() -> None:
    books = Books()
    books.told(b"/limit/0.001")
    assert books.exchange(b"refresh_token=" + refresh_token(1, 0).encode()).startswith(
        b"HTTP/1.1 429"
    )
    assert (books.answered, books.refused) == (0, 1)


def test_one_tiny_round(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipeline and a script, measured in turn; the endpoint finds no token wrong."""
    monkeypatch.setattr(bench_ground, "LEAD", 2.0)
    monkeypatch.setattr(contenders, "PEER_WARM_UP", 50)
    script = Peer.of(Path(sys.executable), "by_hand", in_flight=8, stores=True)
    windows = alternate(
        {
            "refresher": lambda: pipeline(ground, 100),
            "script": lambda: peer(ground, script, 0.05),
        },
        1,
        lambda _: None,
    )
    assert 0 < windows["refresher"][0].answers <= 90
    assert ratio(windows["refresher"], windows["script"]).by_cpu > 0
