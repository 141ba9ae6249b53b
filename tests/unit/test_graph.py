"""Pictures of DAGs: complete, readable when large, and safe whatever names hold."""

import re
import shutil
import subprocess
from datetime import timedelta
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiorch.model.status import RunStatus, TaskStatus
from aiorch.views.graph import render
from aiorch.views.outline import BRANCHES_MAX, COLOURS, DEPTH_MAX, duration_text, outline_of, shorten
from tests.unit.run_examples import STARTED, build, chain, fan, parallel, run_of, sample

FORMATS = ["mermaid", "dot", "svg"]
HOSTILE = [
    'quote " and \\ backslash',
    'a"]; click n1 "javascript:alert(1)',
    "<script>alert(1)</script> & more",
    "1. not a list",
    "- nor this",
    "`code` *bold* __init__ #35; %% comment",
    "end",
    "subgraph",
    "日本語 und Ümläute",
    "{curly} [square] (round) |pipe|",
]
SVG = "{http://www.w3.org/2000/svg}"


def texts(svg: str) -> list[str]:
    """Everything that is written in an SVG, as a reader sees it."""
    return ["".join(element.itertext()) for element in ET.fromstring(svg).iter(f"{SVG}text")]


@pytest.mark.parametrize("format_", FORMATS)
def test_every_node_is_drawn(format_):
    """Each format names every node of a nested DAG, and what a task launches."""
    picture = render(sample(), format_)
    for name in ("Init", "Par", "A1", "A2", "Inner", "C1", "C2", "End"):
        assert name in picture
    assert "work" in picture


@pytest.mark.parametrize("format_", FORMATS)
def test_statuses_of_a_run_are_shown(format_):
    """Drawn with a run, each status is there in words and in its own colour; without one, none is."""
    statuses = {"Init": TaskStatus.COMPLETED, "Par": TaskStatus.RUNNING, "A1": TaskStatus.FAILED}
    dag = sample()
    drawn = render(dag, format_, run_of(dag, statuses))
    bare = render(dag, format_)
    for status in (*statuses.values(), TaskStatus.NEW):
        assert status in drawn
        assert COLOURS[status].stroke in drawn
        assert status not in bare


def test_durations_count_to_the_end_or_to_now():
    """A node that ended shows what it took, one that runs shows how long it has been running."""
    dag = sample()
    run = run_of(dag, {"Init": TaskStatus.COMPLETED, "A1": TaskStatus.RUNNING})
    lines = texts(render(dag, "svg", run, now=STARTED + timedelta(seconds=66)))
    assert "Completed · 2.0 s" in lines
    assert "Running · 1 min 5 s" in lines


def test_svg_tells_why_a_run_failed():
    """The head of the picture names the run, its status and what failed; the box has the message as a tooltip."""
    dag = sample()
    run = run_of(dag, {"A1": TaskStatus.FAILED}, RunStatus.FAILED)
    svg = render(dag, "svg", run)
    assert any("run r1 · Failed · 10 s" in line for line in texts(svg))
    assert "A1: ValueError: no number: 'n/a'" in texts(svg)
    tooltips = [element.text for element in ET.fromstring(svg).iter(f"{SVG}title")]
    assert any(tip.startswith("A1\n") and "no number" in tip for tip in tooltips)


def test_svg_boxes_do_not_overlap():
    """No two boxes of one level overlap, and each `Parallel` encloses what is in it: the layout is right."""
    svg = ET.fromstring(render(sample(), "svg"))
    boxes = [
        tuple(float(rect.get(key)) for key in ("x", "y", "width", "height"))
        for rect in svg.iter(f"{SVG}rect")
        if rect.get("x")
    ]
    assert len(boxes) == 8
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
    right = max(x + width for x, _, width, _ in boxes)
    assert right < float(svg.get("width"))


@pytest.mark.parametrize("name", HOSTILE)
def test_names_cannot_break_out_of_an_svg(name):
    """Whatever a name holds, the SVG is well-formed XML and shows the name as it is."""
    svg = render(build(chain(name, "Last")), "svg")
    assert shorten(name) in texts(svg)
    assert "script" not in {element.tag.removeprefix(SVG) for element in ET.fromstring(svg).iter()}


@pytest.mark.parametrize("name", HOSTILE)
def test_names_cannot_break_out_of_mermaid(name):
    """Of a name only harmless marks stand in a label as they are; reading the numbers back gives the name."""
    lines = render(build(chain(name, "Last")), "mermaid").splitlines()
    label = re.fullmatch(r'  n1\["(.*)"\]', lines[lines.index("flowchart LR") + 1])[1]
    first, second = label.split("<br/>")
    assert not set(first + second) & set('"`<>{}|\\[]()')
    assert re.sub(r"#(\d+);", lambda match: chr(int(match[1])), first) == shorten(name)


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
@pytest.mark.parametrize("name", HOSTILE)
def test_graphviz_accepts_any_name(name):
    """Graphviz itself reads the text back with the very name in the label."""
    text = render(build(parallel("Par", [chain(name, "A2"), chain("B")])), "dot")
    plain = subprocess.run(["dot", "-Tplain"], input=text, capture_output=True, text=True, check=True)
    assert plain.stderr == ""


@pytest.mark.parametrize("name", HOSTILE)
def test_names_cannot_break_out_of_dot(name):
    """Outside of quoted strings nothing of a name is left."""
    text = render(build(chain(name, "Last")), "dot")
    unquoted = re.sub(r'"(?:[^"\\]|\\.)*"', '""', text)
    assert re.findall(r"n1 (.*)", unquoted)[0] == '[label="", fillcolor="", color="", fontcolor=""];'


def test_control_characters_are_replaced():
    """A DAG name with control characters neither breaks XML nor gets into a Graphviz text."""
    dag = build(chain("A"))
    dag.name = "bad\x00\x1b[31mname\n"
    assert ET.fromstring(render(dag, "svg")) is not None
    assert "\x1b" not in render(dag, "dot")
    assert "\n" not in re.search(r"title: (.*)", render(dag, "mermaid"))[1]


@pytest.mark.parametrize("format_", FORMATS)
def test_wide_fan_out_is_folded(format_):
    """Of 300 branches 20 are drawn and the rest is one box with counts; the picture stays small."""
    dag = fan(300)
    run = run_of(dag, dict.fromkeys([f"B{index}" for index in range(250)], TaskStatus.COMPLETED))
    picture = render(dag, format_, run)
    folded = outline_of(dag, run).level.items[0].folded
    assert len(re.findall(r"\bB\d+\b", "\n".join(texts(picture)) if format_ == "svg" else picture)) == BRANCHES_MAX
    assert folded.title == "… and 280 more branches"
    assert folded.detail == "50 New, 230 Completed"
    assert len(picture) < 40_000


def test_failed_branches_are_drawn_before_others():
    """Folding keeps what somebody looks for: failed branches first, then those at work."""
    dag = fan(100)
    statuses = dict.fromkeys([f"B{index}" for index in range(100)], TaskStatus.COMPLETED)
    run = run_of(dag, statuses | {"B77": TaskStatus.FAILED, "B88": TaskStatus.RUNNING})
    (item,) = outline_of(dag, run, branches_max=3).level.items
    assert [branch.items[0].node.name for branch in item.branches] == ["B0", "B77", "B88"]


@pytest.mark.parametrize("format_", FORMATS)
def test_deep_nesting_is_folded(format_):
    """A `Parallel` nested deeper than anybody can read is counted, and its depth costs no recursion."""
    definition = chain("Leaf")
    for level in reversed(range(60)):
        definition = parallel(f"P{level}", [definition])
    picture = render(build(definition), format_)
    assert f"P{DEPTH_MAX}" in picture
    assert f"P{DEPTH_MAX + 1}" not in picture
    assert "1 branch" in picture


@given(st.floats(0, 10**7))
def test_durations_are_short_and_have_units(seconds):
    """Every duration is told in at most two numbers with their units."""
    assert re.fullmatch(r"\d+(\.\d)? (ms|s)|\d+ min \d+ s|\d+ h \d+ min|\d+ d \d+ h", duration_text(seconds))


def test_long_names_keep_both_ends():
    """A long name is cut in its middle, for names that differ often differ at their ends."""
    assert shorten("a" * 100 + "z", 11) == "aaaaa…aaaaz"
    assert len(shorten("x" * 300)) < 40
