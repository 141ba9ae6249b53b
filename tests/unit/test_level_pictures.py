"""Pictures of levels whose ways part and join: every edge is there, and a run shows the way that it took."""

import itertools
import random
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiorch.core.run_events import TimerDue
from aiorch.model.dag import DAG
from aiorch.model.failure import Failure
from aiorch.model.run import Run
from aiorch.model.status import TaskStatus
from aiorch.views.entries import CAUGHT
from aiorch.views.graph import Format, render
from aiorch.views.outline import COLOURS, NODES_MAX, NODES_SHOWN, Level, outline_of
from aiorch.views.pen import NOT_TAKEN, OPEN, TAKEN
from tests.definitions import task
from tests.unit.run_examples import DAILY, ORDERS, STARTED, TRIES, build, needing, run_of, sample
from tests.unit.test_graph import FORMATS, SVG, texts
from tests.unit.test_levels_fold import Driven, choice

GOLDEN = Path(__file__).parents[1] / "data" / "pictures"
DOCS = Path(__file__).parents[2] / "docs" / "pictures"
HOSTILE = 'input.x == "a|b]\\"" and not (input.y < 3) or "--> n9; click"'
DECLINED = Failure.of("Declined", "no cover")


def orders() -> Driven:
    """Return a run that has caught the failure of a payment, and waits."""
    run = Driven(ORDERS, {"mail": False}).start().succeed("Reserve", {"parcels": 1}, after_s=3)
    return run.fail("Pay", DECLINED).succeed("Ask", after_s=60)


def shipped() -> Driven:
    """Return a run that has ended well."""
    run = Driven(ORDERS, {"mail": False}).start().succeed("Reserve", {"parcels": 1})
    return run.succeed("Pay").succeed("Ship").succeed("Clean").succeed("Log", after_s=2)


@st.composite
def random_dags(draw: st.DrawFn) -> DAG:
    """A DAG of chains whose ways part and join, and of graphs, nested at will."""
    chance = random.Random(draw(st.integers(0, 2**32)))
    definition = random_level(chance, itertools.count(), depth=0)
    if chance.random() < 0.3:
        definition["finally"] = random_level(chance, itertools.count(1000), depth=2)
    return build(definition)


def random_level(chance: random.Random, numbers: Iterator[int], depth: int) -> dict[str, Any]:
    names = [f"S{next(numbers)}" for _ in range(chance.randint(1, 7))]
    is_graph = chance.random() < 0.4
    steps: dict[str, Any] = {}
    for number, name in enumerate(names):
        later = names[number + 1 :]
        if depth < 2 and chance.random() < 0.25:
            branches = [random_level(chance, numbers, depth + 1) for _ in range(chance.randint(1, 3))]
            step = {"type": "Parallel", "branches": branches}
        else:
            step = task()
            del step["end"]
        if is_graph:
            needs = [each for each in names[:number] if chance.random() < 0.4]
            steps[name] = step | ({"needs": needs} if needs else {})
            continue
        # The first way leads to the next step, so that each step can be reached.
        others = [chance.choice(later) for _ in range(chance.randint(0, 3))] if later else []
        if not later:
            steps[name] = step | {"end": True}
        elif others and chance.random() < 0.5:
            options = [(f"input.n == {n}", each) for n, each in enumerate([later[0], *others[:-1]])]
            steps[name] = choice(*options, default=others[-1])
        else:
            handlers = [{"on": [f"E{n}"], "next": each} for n, each in enumerate(others)]
            steps[name] = step | {"next": later[0]} | ({"catch": handlers} if handlers else {})
    return {"steps": steps} if is_graph else {"start": names[0], "steps": steps}


def levels_in(level: Level) -> Iterator[Level]:
    """Yield a level and all levels inside of it."""
    yield level
    for item in level.items:
        for branch in item.branches:
            yield from levels_in(branch)


def outer_levels(dag: DAG, run: Run | None = None) -> list[Level]:
    outline = outline_of(dag, run)
    return [level for outer in (outline.level, outline.final) if outer is not None for level in levels_in(outer)]


@pytest.mark.parametrize("name", ["sample", "sample-run"])
@pytest.mark.parametrize(("format_", "ending"), [("svg", "svg"), ("mermaid", "mmd"), ("dot", "dot")])
def test_a_dag_of_plain_chains_has_the_picture_that_it_always_had(name: str, format_: Format, ending: str) -> None:
    """Byte for byte: the stored pictures were drawn by the version that knew no other levels."""
    dag = sample()
    statuses = {"Init": TaskStatus.COMPLETED, "Par": TaskStatus.RUNNING, "A1": TaskStatus.FAILED}
    run = run_of(dag, statuses | {"C1": TaskStatus.RUNNING}, A1={"attempt": 2}) if name == "sample-run" else None
    picture = render(dag, format_, run, now=STARTED + timedelta(seconds=66))
    assert picture == (GOLDEN / f"{name}.{ending}").read_text(encoding="utf-8")


@pytest.mark.parametrize(("format_", "ending"), [("svg", "svg"), ("mermaid", "mmd"), ("dot", "dot")])
def test_the_picture_of_a_run_with_caught_failures(format_: Format, ending: str) -> None:
    """The stored pictures; the docs show one of them."""
    run = orders()
    picture = render(run.dag, format_, run.run, now=run.now + timedelta(hours=5))
    folder = DOCS if format_ == "svg" else GOLDEN
    assert picture == (folder / f"orders.{ending}").read_text(encoding="utf-8")


@given(random_dags())
@settings(deadline=None)
def test_an_outline_has_the_nodes_and_edges_of_the_dag(dag: DAG) -> None:
    """Every level of any definition: nothing is lost between the definition and the picture."""
    found = {item.node.name for level in outer_levels(dag) for item in level.items}
    assert found == set(dag.all_nodes)
    for level in outer_levels(dag):
        names = [item.node.name for item in level.items]
        nodes = {name: dag.all_nodes[name] for name in names}
        edges = {(names[edge.source], names[edge.target]) for edge in level.edges}
        assert edges == {(name, after.name) for name, node in nodes.items() for after in node.following_nodes}
        assert len(edges) == len(level.edges)
        assert all(edge.source < edge.target for edge in level.edges)


@given(random_dags())
@settings(deadline=None)
def test_every_format_draws_every_edge(dag: DAG) -> None:
    """As many links as the levels have, and one more for each beginning and end of a branch."""
    levels = outer_levels(dag)
    edges = sum(len(level.edges) for level in levels)
    inner = sum(
        len(branch.starts) + len(branch.ends) for level in levels for item in level.items for branch in item.branches
    )
    assert len(re.findall(r"^ *\S+ -\.?->", render(dag, "mermaid"), re.MULTILINE)) == edges + inner
    assert sum(" -> " in re.sub(r'"(?:[^"\\]|\\.)*"', '""', line) for line in render(dag, "dot").splitlines()) == (
        edges + inner
    )
    arrows = re.findall(r"marker-end", render(dag, "svg"))
    fans = sum(len(item.branches) for level in levels for item in level.items)
    framed = sum(level.is_graph for level in (outline_of(dag).level, outline_of(dag).final) if level is not None)
    assert len(arrows) == edges + fans + framed


@given(random_dags())
@settings(deadline=None)
def test_boxes_of_any_dag_do_not_overlap(dag: DAG) -> None:
    """Two boxes are apart, or one encloses the other."""
    boxes = [
        tuple(float(rect.get(key) or 0) for key in ("x", "y", "width", "height"))
        for rect in ET.fromstring(render(dag, "svg")).iter(f"{SVG}rect")
        if rect.get("x")
    ]
    for index, (x, y, width, height) in enumerate(boxes):
        for other_x, other_y, other_width, other_height in boxes[index + 1 :]:
            apart = (
                x + width <= other_x
                or other_x + other_width <= x
                or y + height <= other_y
                or other_y + other_height <= y
            )
            inside = (
                x < other_x
                and y < other_y
                and x + width > other_x + other_width
                and y + height > other_y + other_height
            )
            assert apart or inside


def links(picture: str) -> dict[str, str]:
    """Return the links of a Mermaid text by the names of their nodes, ``A>B``, with arrow and label."""
    names = dict(re.findall(r'^ *(n\d+)\["([^"<]*)', picture, re.MULTILINE))
    found = re.findall(r"^ *(n\d+) (\S+?>)(?:\|\"(.*)\"\|)? (n\d+)$", picture, re.MULTILINE)
    return {f"{names[a]}>{names[b]}": f"{arrow}{label}" for a, arrow, label, b in found}


def test_edges_tell_their_conditions() -> None:
    """A choice tells its conditions and the default, a handler its types, dashed; a plain edge tells nothing."""
    found = links(render(build(ORDERS), "mermaid"))
    assert found["Size>Split"] == "-->results.Reserve.parcels #62; 1"
    assert found["Size>Notify"] == "-->default"
    assert found["Pay>Ship"] == "-->"
    assert found["Pay>Ask"] == "-.->on Declined, Expired"
    assert found["Pay>Release"] == "-.->on any failure"
    dot = render(build(ORDERS), "dot")
    assert '[label="on Declined, Expired", fontname="Helvetica", fontsize=10, style=dashed];' in dot
    svg = render(build(ORDERS), "svg")
    assert "on Declined, Expired" in texts(svg)
    assert svg.count('stroke-dasharray="5 4"') == 3


def test_ways_to_the_same_step_are_one_edge() -> None:
    """Two options and a handler that lead to one step are told in one label."""
    steps = {
        "A": choice(("input.a", "B"), ("input.b", "B"), default="C"),
        "B": task("C", catch=[{"on": ["Timeout"], "next": "C"}]),
        "C": task(),
    }
    found = links(render(build({"start": "A", "steps": steps}), "mermaid"))
    assert found == {"A>B": "-->input.a or input.b", "A>C": "-->default", "B>C": "-->next or on Timeout"}


@pytest.mark.parametrize("format_", FORMATS)
def test_conditions_cannot_break_out_of_a_picture(format_: Format) -> None:
    """A condition may hold quotes, brackets and arrows: they are part of the label, and nothing else."""
    steps = {"A": choice((HOSTILE, "B"), default="C"), "B": task(), "C": task()}
    picture = render(build({"start": "A", "steps": steps}), format_)
    if format_ == "svg":
        assert HOSTILE in [element.text for element in ET.fromstring(picture).iter(f"{SVG}title")]
    elif format_ == "mermaid":
        label = re.search(r'n1 -->\|"(.*)"\| n\d', picture)
        assert label is not None
        assert not set(label[1]) & set('"`<>{}|\\[]()')
    else:
        assert len(re.findall("->", re.sub(r'"(?:[^"\\]|\\.)*"', '""', picture))) == 2


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
@given(random_dags())
@settings(deadline=None)
def test_graphviz_accepts_any_level(dag: DAG) -> None:
    """Graphviz reads any picture without a warning."""
    plain = subprocess.run(["dot", "-Tplain"], input=render(dag, "dot"), capture_output=True, text=True, check=True)
    assert plain.stderr == ""


def strokes(picture: str) -> Mapping[str, int]:
    """Count the edges of an SVG by their colour."""
    found = [path.get("stroke") for path in ET.fromstring(picture).iter(f"{SVG}path")]
    return {ink.marker: found.count(ink.colour) for ink in (OPEN, TAKEN, NOT_TAKEN)}


def taken(run: Run, dag: DAG) -> dict[str, bool | None]:
    level = outline_of(dag, run).level
    names = [*(item.node.name for item in level.items), "end"]
    return {f"{names[edge.source]}>{names[edge.target]}": edge.taken for edge in (*level.edges, *level.ends)}


def test_the_way_of_a_run_stands_out() -> None:
    """The way taken, the ways not taken, and those that are still open differ."""
    run = orders()
    ways = taken(run.run, run.dag)
    assert {name for name, way in ways.items() if way} == {"Reserve>Pay", "Pay>Ask", "Ask>Pause"}
    assert {name for name, way in ways.items() if way is False} == {"Pay>Ship", "Pay>Release"}
    svg = render(run.dag, "svg", run.run)
    assert (strokes(svg)["taken"], strokes(svg)["not-taken"]) == (3, 2)
    assert f'color="{TAKEN.colour}", penwidth={TAKEN.width}' in render(run.dag, "dot", run.run)
    mermaid = render(run.dag, "mermaid", run.run)
    (numbers,) = re.findall(rf"linkStyle ([\d,]+) stroke:{TAKEN.colour}", mermaid)
    order = list(links(mermaid))
    assert {order[int(number)] for number in numbers.split(",")} == {"Reserve>Pay", "Pay>Ask", "Ask>Pause"}


def test_a_run_that_ended_has_no_open_way() -> None:
    """The way goes on behind a step that its own condition has skipped, and all other ways are pale."""
    run = shipped()
    ways = taken(run.run, run.dag)
    assert {name for name, way in ways.items() if way} == {
        "Reserve>Pay", "Pay>Ship", "Ship>Size", "Size>Notify", "Notify>end"
    }  # fmt: skip
    assert None not in ways.values()


def test_ways_of_a_graph_are_taken_one_by_one() -> None:
    """A need that was met stands out, one that failed is pale, one that still runs is neither."""
    run = Driven(DAILY, {"export": False}).start()
    run.succeed("Orders").succeed("Rates").succeed("Convert")
    ways = taken(run.run, run.dag)
    assert ways["Convert>Score"] is True
    assert ways["Export>Mail"] is True  # skipped by its own condition: the need counts as met
    assert ways["Score>Report"] is None
    run.fail("Score")
    assert taken(run.run, run.dag)["Score>Report"] is False


@pytest.mark.parametrize("format_", FORMATS)
def test_caught_failures_do_not_look_like_failures(format_: Format) -> None:
    """A caught failure has its own words and colours, and is no failure of the run."""
    run = orders()
    picture = render(run.dag, format_, run.run)
    assert "Failed, caught" in picture
    assert COLOURS[CAUGHT].stroke in picture
    assert COLOURS[TaskStatus.FAILED].stroke not in picture
    assert outline_of(run.dag, run.run).failures == ()
    if format_ == "svg":
        assert "1 failure caught" in texts(picture)


def test_failures_inside_of_a_caught_node_are_caught() -> None:
    """A failure inside of a node whose failure was caught is no failure of the run, and tells that node."""
    run = Driven(TRIES, {"export": True}).start()
    run.fail("A").stop("Left").fold(TimerDue("Fan"), after_s=60)
    run.fail("Fan#2.A").stop("Fan#2.Left")
    outline = outline_of(run.dag, run.run)
    assert outline.failures == ()
    assert outline.counts[CAUGHT] == 1
    (fan, _) = outline.level.items
    failed = fan.branches[1].items[0]
    assert (failed.look, failed.reason) == (CAUGHT, "caught by Fan")
    assert "try 2" in fan.progress


@pytest.mark.parametrize("format_", FORMATS)
def test_a_wait_tells_its_end(format_: Format) -> None:
    """A waiting step tells the time at which it goes on, in UTC."""
    run = orders()
    assert f"until {run.now + timedelta(days=3):%Y-%m-%d %H:%M:%S} UTC" in render(run.dag, format_, run.run)


@pytest.mark.parametrize("format_", FORMATS)
def test_a_condition_that_was_false_is_told(format_: Format) -> None:
    """A step that its own condition has skipped differs from one on a way that was not taken."""
    run = shipped()
    picture = render(run.dag, format_, run.run)
    labels = "\n".join(texts(picture)) if format_ == "svg" else picture
    assert labels.count("condition is false") == 1
    assert labels.count("Skipped") > 1


def test_finally_is_a_part_of_its_own_below() -> None:
    """The level `finally` stands below all other steps, with the outcome of these once it has begun."""
    run = shipped()
    svg = ET.fromstring(render(run.dag, "svg", run.run))
    heights = {"".join(text.itertext()): float(text.get("y") or 0) for text in svg.iter(f"{SVG}text")}
    (title,) = (text for text in heights if text.startswith("finally"))
    assert title == "finallyafter Completed · 2.0 s"
    assert max(heights[name] for name in ORDERS["steps"]) < heights[title] < heights["Clean"]
    assert 'subgraph final["finally #183; after Completed #183; 2.0 s"]' in render(run.dag, "mermaid", run.run)
    assert "subgraph cluster_final {" in render(run.dag, "dot", run.run)
    assert "after all other steps, however they end" in render(run.dag, "svg")


@pytest.mark.parametrize("format_", FORMATS)
def test_a_very_large_level_is_folded(format_: Format) -> None:
    """Of a graph of thousands of steps, those that failed or run are drawn, and the rest is counted."""
    names = [f"S{number}" for number in range(NODES_MAX + 500)]
    dag = build({"steps": {"First": needing(), **{name: needing("First") for name in names}}})
    run = run_of(dag, dict.fromkeys(names, TaskStatus.COMPLETED) | {"S700": TaskStatus.FAILED})
    level = outline_of(dag, run).level
    assert len(level.items) == NODES_SHOWN
    assert "S700" in [item.node.name for item in level.items]
    assert level.folded is not None
    assert level.folded.title == f"… and {len(names) + 1 - NODES_SHOWN:,} more steps"
    picture = render(dag, format_, run)
    assert "more steps" in picture
    assert len(picture) < 20_000


def test_the_last_try_is_drawn() -> None:
    """Of a node that is tried again, the entries of the present try are drawn, and those before are left out."""
    run = Driven(TRIES, {"export": True}).start()
    run.fail("A").stop("Left")
    fan = outline_of(run.dag, run.run).level.items[0]
    assert (fan.look, fan.branches[1].items[0].look) == (TaskStatus.RETRYING, TaskStatus.FAILED)
    run.fold(TimerDue("Fan"), after_s=60)
    fan = outline_of(run.dag, run.run).level.items[0]
    assert (fan.look, fan.branches[1].items[0].look) == (TaskStatus.RUNNING, TaskStatus.STARTING)
    assert outline_of(run.dag, run.run).failures == ()
    assert fan.progress.endswith("try 2")


@given(random_dags(), st.data())
@settings(deadline=None)
def test_any_state_of_a_run_can_be_drawn(dag: DAG, data: st.DataObject) -> None:
    """Each format draws a run with any entries, and the SVG is well-formed."""
    statuses = {name: data.draw(st.sampled_from(list(TaskStatus))) for name in dag.all_nodes}
    run = run_of(dag, statuses)
    for format_ in FORMATS:
        assert render(dag, format_, run, now=STARTED)
    ET.fromstring(render(dag, "svg", run))
