"""The two forms of a level: the rules of chains and graphs, each mistake reported once, and no consequence of it."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from aiorch.definition.build import DAGBuilder
from aiorch.nodes.parallel import Parallel
from tests.definitions import chain, only_problem, parallel, problems_if_any, problems_of

TASK = {"type": "Task", "target_type": "Function", "target_name": "tasks:run"}
FAIL = {"type": "Fail", "error": "Wrong"}


def step(next: Any = ..., **keys: Any) -> dict[str, Any]:
    """A task that is followed by *next*; `None` for an end, `...` for nothing at all."""
    link = {"next": next} if isinstance(next, str) else {"end": True} if next is None else {}
    return {**TASK, **link, **keys}


def choice(*names: str, default: str | None = None) -> dict[str, Any]:
    options = [{"when": f"input.x == {number}", "next": name} for number, name in enumerate(names)]
    return {"type": "Choice", "choices": options, **({"default": default} if default else {})}


def level(**steps: Any) -> dict[str, Any]:
    """A chain from `A`; a text, `None` or `...` stands for a task with this successor."""
    return {
        "start": "A",
        "steps": {name: each if isinstance(each, dict) else step(each) for name, each in steps.items()},
    }


def graph(**steps: Any) -> dict[str, Any]:
    """A graph; a list stands for a task with these needs."""
    made = {
        name: each if isinstance(each, dict) else {**TASK, **({"needs": each} if each else {})}
        for name, each in steps.items()
    }
    return {"steps": made}


def found_in(data: Any) -> dict[str, str]:
    found = problems_of(data)
    assert len({problem.path for problem in found}) == len(found), found
    return {problem.path: problem.message for problem in found}


def check(data: Any, expected: dict[str, str]) -> None:
    found = found_in(data)
    assert found.keys() == expected.keys(), found
    for path, words in expected.items():
        assert words in found[path]


# -- chains ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "steps",
    [
        {"A": None},
        {"A": "B", "B": None},
        {"A": choice("B", "C"), "B": "D", "C": "D", "D": None},
        {"A": choice("B", default="C"), "B": None, "C": FAIL},
        {"A": choice("B", "B", default="B"), "B": None},
        {"A": step("B", catch=[{"on": ["Timeout"], "next": "C"}, {"next": "B"}]), "B": None, "C": "B"},
        {"A": step(None, catch=[{"next": "B"}]), "B": None},
        {"A": FAIL},
        {"A": {**FAIL, "when": "input.x", "next": "B"}, "B": None},
        {"A": {**FAIL, "when": "input.x", "end": True}},
    ],
)
def test_a_right_chain_is_accepted(steps: dict[str, Any]) -> None:
    """Ways part at a `Choice` and at a handler, join at a shared `next`, and end where they like."""
    assert next(iter(DAGBuilder(level(**steps)).build_dag().nodes)) == "A"


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ({"A": "B", "B": ...}, {"steps.B": "this step has no successor"}),
        ({"A": "Stpe2", "Step2": None}, {"steps.A.next": "there is no step 'Stpe2' here; did you mean 'Step2'?"}),
        ({"A": "zzz", "B": None}, {"steps.A.next": "there is no step 'zzz' here, only 'A', 'B'"}),
        ({"A": None, "B": None}, {"steps.B": "no way leads here from the start ('A')"}),
        ({"A": "C", "B": "C", "C": None}, {"steps.B": "no way leads here"}),
        ({"A": "A"}, {"steps.A.next": "this leads back: 'A' -> 'A'; aiorch has no loops yet, so lead on to"}),
        ({"A": "B", "B": "C", "C": "B"}, {"steps.C.next": "this leads back: 'B' -> 'C' -> 'B'"}),
        (
            {"A": None, "B": "C", "C": "B"},
            {"steps.B": "no way leads here", "steps.C.next": "this leads back: 'B' -> 'C' -> 'B'"},
        ),
        ({"A": "B", "B": choice("A", "C"), "C": None}, {"steps.B.choices[0].next": "'A' -> 'B' -> 'A'"}),
        ({"A": "B", "B": choice("C", default="A"), "C": None}, {"steps.B.default": "'A' -> 'B' -> 'A'"}),
        ({"A": "B", "B": step(None, catch=[{"next": "A"}])}, {"steps.B.catch[0].next": "'A' -> 'B' -> 'A'"}),
        (
            {"A": choice("B", "C"), "B": "A", "C": "A"},
            {"steps.B.next": "'A' -> 'B' -> 'A'", "steps.C.next": "'A' -> 'C' -> 'A'"},
        ),
        ({"A": choice("B", "X", default="Y"), "B": None}, {"steps.A.choices[1].next": "'X'", "steps.A.default": "'Y'"}),
        ({"A": step(None, catch=[{"next": "X"}])}, {"steps.A.catch[0].next": "there is no step 'X' here"}),
        ({"A": {**FAIL, "next": "B"}, "B": None}, {"steps.A.next": "always fails, and no step follows it"}),
        ({"A": {**FAIL, "end": True}}, {"steps.A.end": "always fails, and no step follows it"}),
        ({"A": {**FAIL, "when": "input.x"}}, {"steps.A": "this step has no successor"}),
        ({"A": {**choice("B"), "next": "B"}, "B": None}, {"steps.A.next": "a `Choice` has no `next` and no `end`"}),
        ({"A": {**choice("B"), "end": True}, "B": None}, {"steps.A.end": "a `Choice` has no `next` and no `end`"}),
        ({"A": {**choice("B"), "when": "input.x"}, "B": None}, {"steps.A.when": "add the condition to its `choices`"}),
        ({"A": step("B", needs=["B"]), "B": None}, {"steps.A.needs": "`needs` belongs to graphs"}),
    ],
)
def test_a_wrong_chain_has_each_mistake_once(steps: dict[str, Any], expected: dict[str, str]) -> None:
    """Every mistake has one message, at the name or step that is wrong."""
    check(level(**steps), expected)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        # 'Step3' looks like 'Step2' as much as like 'Step4': the guess would be a circle, or leave 'Step4' alone.
        ({"A": "Step2", "Step2": "Step3", "Step4": None}, {"steps.Step2.next"}),
        ({"A": "x1", "B": "x2", "C": None}, {"steps.A.next", "steps.B.next"}),
        ({"A": "B", "B": "A", "C": None}, {"steps.B.next"}),
        ({"A": ..., "B": None}, {"steps.A"}),
        ({"A": {**TASK, "next": ["B"]}, "B": None}, {"steps.A.next"}),
        ({"A": None, "B": "C", "C": "D", "D": None}, {"steps.B"}),
        ({"A": None, "B": "x"}, {"steps.B", "steps.B.next"}),
        ({"A": {**choice("B"), "choices": [{"when": "true", "next": 5}]}, "B": None}, {"steps.A.choices[0].next"}),
        ({"A": "nowhere", "B": None, "C": None, "D": None}, {"steps.A.next", "steps.B", "steps.C", "steps.D"}),
    ],
)
def test_consequences_of_a_mistake_are_not_reported(steps: dict[str, Any], expected: set[str]) -> None:
    """A link that is not clear may lead to any step; more steps without a way than such links are mistakes."""
    assert found_in(level(**steps)).keys() == expected


def test_a_misspelt_start_is_one_mistake() -> None:
    """Neither the unknown name nor the unknown key is followed by further messages."""
    steps = level(A="B", B=None)["steps"]
    assert only_problem({"start": "a", "steps": steps}).message == "there is no step 'a' here; did you mean 'A'?"
    assert only_problem({"start": "X", "steps": steps}).message == "there is no step 'X' here, only 'A', 'B'"
    assert only_problem({"Start": "A", "steps": steps}).message == "unknown key; did you mean `start`?"


def test_next_and_end_exclude_each_other() -> None:
    """A step that has both is reported; `end: false` says nothing and is no contradiction."""
    both = level(A=step("B", end=True), B=None)
    check(both, {"steps.A": "this step has both `next: 'B'` and `end: true`; take one of them away"})
    both["steps"]["A"]["end"] = False
    assert list(DAGBuilder(both).build_dag().nodes) == ["A", "B"]
    check(level(A=step(end=False)), {"steps.A": "`next: <name of a step>`, or `end: true` if it is the last"})


def test_a_long_cycle_is_shown_short() -> None:
    """A cycle of a thousand steps fits on a line."""
    data = level(A="S1", **{f"S{number}": f"S{number + 1}" for number in range(1, 999)}, S999="A")
    message = only_problem(data).message
    assert "'A' -> 'S1' -> 'S2' -> (996 more) -> 'S999' -> 'A'" in message


def test_a_branch_that_leads_out_of_itself_is_told_how_to_end() -> None:
    """The most natural mistake: a branch whose last step names the step after the join."""
    problem = only_problem(chain(P=parallel({"start": "B", "steps": {"B": step("End")}}), End=TASK))
    assert problem.path == "steps.P.branches[0].steps.B.next"
    assert "step 'End' is not on this level but at steps.End; a branch ends with `end: true`" in problem.message


def test_a_chain_has_no_on_failure() -> None:
    """The key belongs to levels with several steps at once."""
    check({**level(A=None), "on_failure": "wait"}, {"on_failure": "belongs to a graph and to a `Parallel`"})


# -- graphs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "steps",
    [
        {"A": []},
        {"A": [], "B": []},
        {"A": ["B"], "B": []},
        {"A": [], "B": ["A"], "C": ["A"], "D": ["B", "C", "A"]},
        {"A": [], "F": {**FAIL, "needs": ["A"]}},
        {"F": {**FAIL, "when": "input.x"}, "A": ["F"]},
        {"A": {**TASK, "catch": [{"result": None}], "when": "input.x"}, "B": ["A"]},
    ],
)
def test_a_right_graph_is_accepted(steps: dict[str, Any]) -> None:
    """Steps need steps of their level, in any order of the definition, and nothing leads back."""
    dag = DAGBuilder({**graph(**steps), "on_failure": "wait"}).build_dag()
    assert dag.is_graph
    order = list(dag.nodes)
    assert all(order.index(needed) < order.index(name) for name, node in dag.nodes.items() for needed in node.needs)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ({"A": ["X"], "B": []}, {"steps.A.needs[0]": "there is no step 'X' here, only 'A', 'B'"}),
        ({"Load": [], "B": ["Laod"]}, {"steps.B.needs[0]": "did you mean 'Load'?"}),
        ({"A": ["A"]}, {"steps.A.needs[0]": "a step cannot need itself"}),
        ({"A": [], "B": ["A", "A"]}, {"steps.B.needs[1]": "step 'A' is named twice"}),
        ({"A": ["B"], "B": ["A"]}, {"steps.B.needs[0]": "would ever begin: 'A' needs 'B' needs 'A'"}),
        ({"A": FAIL, "B": ["A"], "C": ["B"]}, {"steps.B.needs[0]": "step 'A' always fails, so this step would never"}),
        (
            {"A": [], "B": {**choice("A"), "needs": ["A"]}},
            {"steps.B.needs": "`needs` is a key of", "steps.B.type": "graph"},
        ),
        ({"A": [], "B": step("A", needs=["A"])}, {"steps.B.next": "this level is a graph, since it has no `start`"}),
        ({"A": [], "B": step(None, needs=["A"])}, {"steps.B.end": "belong to chains"}),
        (
            {"A": [], "B": step(needs=["A"], catch=[{"next": "A"}])},
            {"steps.B.catch[0].next": "this level is a graph, since it has no `start`"},
        ),
        ({"A": {**TASK, "needs": []}}, {"steps.A.needs": "must not be empty"}),
        ({"A": {**TASK, "needs": "B"}, "B": []}, {"steps.A.needs": "must be a list, not 'B'"}),
    ],
)
def test_a_wrong_graph_has_each_mistake_once(steps: dict[str, Any], expected: dict[str, str]) -> None:
    """Every mistake has one message, at the name that is wrong."""
    check(graph(**steps), expected)


def test_a_need_in_another_level_is_told_where_it_is() -> None:
    """Only the step around can need the steps beside it."""
    data = graph(A=[], P={"type": "Parallel", "branches": [graph(B=["A"])]})
    check(data, {"steps.P.branches[0].steps.B.needs[0]": "not on this level but at steps.A; a step needs steps of its"})


# -- one form or the other -------------------------------------------------------------------------------------------


def test_a_chain_without_a_start_has_one_mistake() -> None:
    """Ten steps with `next` are no graph with ten mistakes."""
    steps = level(**{f"S{number}": f"S{number + 1}" for number in range(9)}, S9=None)["steps"]
    problem = only_problem({"steps": steps})
    assert (problem.path, problem.message) == (
        "start",
        "this key is missing: the name of the first step, it seems 'S0'",
    )
    assert only_problem(graph(A=choice("B", "C"), B=None, C=None) | {"steps": level(A=choice("B"), B=None)["steps"]})


def test_a_graph_with_a_start_has_one_mistake() -> None:
    """`needs` says that the level is a graph, and every step is right but for the key `start`."""
    problem = only_problem({"start": "A", **graph(A=[], B=["A"], C=["B"])})
    assert (problem.path, "is a graph, and has no `start`: take it away" in problem.message) == ("start", True)


def test_a_mixture_of_the_forms_has_one_mistake() -> None:
    """The message names the steps of the form that the level does not have, as many as fit on a line."""
    steps = {"A": step("B"), "B": step(None)}
    needy = {f"N{number}": step(needs=["A"]) for number in range(5)}
    problem = only_problem({"start": "A", "steps": {**steps, **needy}})
    assert problem.path == "steps.N0.needs"
    assert "this level is a chain" in problem.message
    assert problem.message.endswith("write all its steps in one form (see 'N0', 'N1', 'N2', 2 more steps)")
    problem = only_problem({"steps": {**steps, **needy}})
    assert problem.path == "steps.A.next"
    assert problem.message.endswith("write all its steps in one form (see 'A', 'B')")


def test_each_form_stands_inside_the_other() -> None:
    """A branch may be a graph in a chain, and a chain in a graph; `finally` may be either."""
    inner = chain(P=parallel(graph(C=[], D=["C"])))
    data = {**graph(A=[], Q={"type": "Parallel", "branches": [inner], "needs": ["A"]}), "finally": graph(F=[])}
    dag = DAGBuilder(data).build_dag()
    assert dag.is_graph
    assert dag.final is not None
    outer, nested = dag.nodes["Q"], dag.all_nodes["P"]
    assert isinstance(outer, Parallel)
    assert isinstance(nested, Parallel)
    assert [outer.branches[0].is_graph, nested.branches[0].is_graph, dag.final.is_graph] == [False, True, True]
    assert dag.schema_version == 2


def test_a_graph_in_a_branch_needs_the_second_version() -> None:
    """An older aiorch knows no level without `start`, wherever the level stands."""
    assert DAGBuilder(chain(P=parallel(graph(C=[])))).build_dag().schema_version == 2
    assert DAGBuilder(chain(P=parallel(level(A=None)))).build_dag().schema_version == 1


def test_a_name_is_used_once_with_finally_included() -> None:
    """The steps of `finally` are entries of the same document."""
    data = {**level(A=None), "finally": level(A=None)}
    check(data, {"finally.steps.A": "a step with this name exists at steps.A"})


# -- size ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["handlers", "ladder", "graph", "misspelt", "circles", "apart"])
def test_ten_thousand_steps_are_checked_in_proportion(shape: str) -> None:
    """The CPU time of wide and long levels stays far below a second per thousand steps."""
    size = 10_000
    names = [f"S{number}" for number in range(size)]
    following = dict(zip(names, [*names[1:], None], strict=True))
    match shape:
        case "handlers":  # every step may fail into the last one
            steps = {name: step(after, catch=[{"next": names[-1]}]) for name, after in following.items() if after}
            steps[names[-1]] = step(None)
        case "ladder":
            steps = {
                name: choice(after, names[min(number + 2, size - 1)]) if after else step(None)
                for number, (name, after) in enumerate(following.items())
            }
        case "graph":
            steps = {
                name: step(needs=names[max(0, number - 3) : number]) if number else step()
                for number, name in enumerate(names)
            }
        case "misspelt":
            steps = {name: step(after and f"{after}x") for name, after in following.items()}
        case "circles":
            steps = {name: choice(after, names[0]) if after else step(None) for name, after in following.items()}
        case _:
            steps = {name: step(names[-1]) if after else step(None) for name, after in following.items()}
    data = {"start": names[0], "steps": steps} if shape != "graph" else {"steps": steps}
    begin = time.process_time()
    found = problems_if_any(data)
    assert time.process_time() - begin < 15
    assert len(found) == {"misspelt": size - 1, "circles": size - 1, "apart": size - 2}.get(shape, 0)


# -- against all ways ------------------------------------------------------------------------------------------------

NAMES = "ABCDE"


@st.composite
def links(draw: st.DrawFn, number: int, names: str, *, in_graph: bool) -> dict[str, Any]:
    """A step, mostly right: it leads on to later steps, and needs earlier ones; sometimes anything else."""
    later, earlier = names[number + 1 :], names[:number]
    anywhere = st.sampled_from([*names, "Z"])
    goal = st.one_of(
        st.sampled_from(later) if later else anywhere, *([anywhere] if draw(st.integers(0, 9)) == 0 else [])
    )
    kind = draw(
        st.sampled_from(["task"] * 6 + ["choice"] * 2 + ["fail"] * 2 if not in_graph else ["task"] * 9 + ["fail"])
    )
    when = {"when": "input.x"} if draw(st.integers(0, 3)) == 0 else {}
    odd = draw(st.integers(0, 19)) == 0
    if kind == "choice":
        return choice(*draw(st.lists(goal, min_size=1, max_size=2)), default=draw(st.none() | goal)) | (
            when if odd else {}
        )
    made = {**(FAIL if kind == "fail" else TASK), **when}
    if in_graph:
        needs = draw(st.lists(st.sampled_from(earlier), unique=not odd, max_size=3)) if earlier else []
        needs += [draw(anywhere)] if odd else []
        return made | ({"needs": needs} if needs else {}) | ({"end": True} if odd and draw(st.booleans()) else {})
    if kind == "task" and draw(st.integers(0, 2)) == 0:
        made["catch"] = [{"on": ["Timeout"], "next": draw(goal)}]
    if (kind == "task" or when) != odd:
        made |= {"next": draw(goal)} if later and draw(st.integers(0, 4)) else {"end": True}
    return made


@st.composite
def some_levels(draw: st.DrawFn) -> dict[str, Any]:
    """A chain or a graph of a few steps."""
    names = NAMES[: draw(st.integers(1, len(NAMES)))]
    in_graph = draw(st.booleans())
    steps = {name: draw(links(number, names, in_graph=in_graph)) for number, name in enumerate(names)}
    order = draw(st.permutations(list(steps)))
    made = {"steps": {name: steps[name] for name in order}}
    return made if in_graph else {"start": draw(st.sampled_from("A" * 9 + "Z")), **made}


def ways(steps: dict[str, Any], name: str, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every way of the token from a step on. Raises: LookupError, ValueError: A rule of chains is broken."""
    if name in before:
        raise ValueError(name)
    each, way = steps[name], (*before, name)
    choices = [option["next"] for option in each.get("choices", ())]
    if each["type"] == "Choice":
        if "when" in each:
            raise ValueError(name)
        followers = [*choices, *([each["default"]] if "default" in each else [])]
    else:
        follows = [each["next"]] if "next" in each else []
        ends = [None] if each.get("end") else []
        needed = 0 if each["type"] == "Fail" and "when" not in each else 1
        if len(follows) + len(ends) != needed:
            raise ValueError(name)
        followers = [*follows, *(handler["next"] for handler in each.get("catch", ()))]
    yield way
    for follower in followers:
        yield from ways(steps, follower, way)


def is_right_chain(start: str, steps: dict[str, Any]) -> bool:
    try:
        walked = {name for way in ways(steps, start) for name in way}
    except (LookupError, ValueError):
        return False
    return walked == steps.keys()


def is_right_graph(steps: dict[str, Any]) -> bool:
    """Let every step begin that can, until nothing changes: then all steps must have begun."""
    for each in steps.values():
        needs = each.get("needs", [])
        if each["type"] == "Choice" or "next" in each or "end" in each or len(set(needs)) < len(needs):
            return False
        if not steps.keys() >= set(needs):
            return False
    begun: set[str] = set()
    while True:
        well = {name for name in begun if steps[name]["type"] != "Fail" or "when" in steps[name]}
        now = {name for name, each in steps.items() if well.issuperset(each.get("needs", []))}
        if now == begun:
            return begun == steps.keys()
        begun = now


@settings(deadline=None)
@given(some_levels())
def test_the_checks_find_nothing_exactly_where_all_ways_are_right(data: dict[str, Any]) -> None:
    """The checks agree with a walk along every way of the token, and with every start of a step in a graph."""
    steps = data["steps"]
    is_right = is_right_chain(data["start"], steps) if "start" in data else is_right_graph(steps)
    event(f"{'chain' if 'start' in data else 'graph'} {'right' if is_right else 'wrong'}")
    assert (not problems_if_any(data)) == is_right
    if is_right:
        assert sorted(DAGBuilder(data).build_dag().nodes) == sorted(steps)
