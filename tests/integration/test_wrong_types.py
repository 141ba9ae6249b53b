"""Arguments of a wrong type, as people get them wrong: the error names the argument and its type, at once."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from aiorch import (
    AiorchError,
    Client,
    DefinitionError,
    InvalidIdError,
    InvalidInputError,
    InvalidSettingError,
    Orchestrator,
    Settings,
)
from aiorch.settings import LaunchSettings
from aiorch.targets import Functions
from aiorch.targets.function.target import FunctionTarget
from tests.integration.test_orchestrator import chain, engine, named


async def works(context: Any) -> None:
    return None


DAG = named(chain("works"))


@pytest.mark.parametrize("run_id", [5, None, b"one", Path("one"), ["one"]])
@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda orchestrator, run_id: orchestrator.start(DAG, run_id=run_id), id="start"),
        pytest.param(lambda orchestrator, run_id: orchestrator.attach(run_id), id="attach"),
        pytest.param(lambda orchestrator, run_id: orchestrator.cancel(run_id), id="cancel"),
        pytest.param(lambda orchestrator, run_id: orchestrator.resume(run_id), id="resume"),
    ],
)
async def test_an_id_that_is_no_text_is_refused(
    ask: Callable[[Orchestrator, Any], Awaitable[Any]], run_id: Any, request: pytest.FixtureRequest
) -> None:
    """The error names the type; only `start` takes `None`, for an id of its own making."""
    async with engine({"works": works}) as orchestrator:
        if run_id is None and "start" in request.node.name:
            assert (await ask(orchestrator, run_id)).run_id.startswith("run_")
            return
        with pytest.raises(InvalidIdError, match=f"no text but of type {type(run_id).__name__}, is refused"):
            await ask(orchestrator, run_id)


@pytest.mark.parametrize(
    ("dag", "said"),
    [
        (None, "this is of type NoneType; a definition is a mapping, or the path of a file"),
        (5, "of type int"),
        (b"dag.yaml", "of type bytes"),
        ([DAG], "of type list"),
        (works, "of type function"),
        (Path("/nowhere/dag.yaml"), "the file cannot be read: No such file or directory"),
        (Path("/"), "not the path of a .json, .yaml or .yml file"),
    ],
)
async def test_other_types_are_refused_as_definitions(dag: Any, said: str) -> None:
    """Other types than those of definitions, and paths that lead nowhere, are definition errors that say so."""
    async with engine({"works": works}) as orchestrator:
        for ask in (orchestrator.dag, orchestrator.serve_dag):
            with pytest.raises(DefinitionError, match=said):
                ask(dag)
        with pytest.raises(DefinitionError, match=said):
            await orchestrator.start(dag)


@pytest.mark.parametrize("given", [object(), {(1, 2): 3}, {1, object()}, lambda: 0, 1 + 2j])
async def test_an_input_that_is_not_json_is_refused(given: Any) -> None:
    """No run is started, and the message says so."""
    async with engine({"works": works}) as orchestrator:
        with pytest.raises(InvalidInputError, match=r"(?s)so no run was started:.* is not JSON: "):
            await orchestrator.start(DAG, input=given)
        assert await orchestrator.runs() == []


@pytest.mark.parametrize("reason", [5, None, b"why", ["why"]])
async def test_a_reason_that_is_no_text_is_refused(reason: Any) -> None:
    """A cancel with it changes nothing, whether the run is open or has ended."""

    async def waits(context: Any) -> None:
        await asyncio.Event().wait()

    async with engine({"works": works, "waits": waits}) as orchestrator:
        ended = await orchestrator.start(DAG)
        await ended.wait()
        running = await orchestrator.start(named(chain("waits")))
        for run in (ended, running):
            before = run.status
            for ask in (partial(orchestrator.cancel, run.run_id), run.cancel):
                with pytest.raises(TypeError, match=f"reason is of type {type(reason).__name__} and must be a text"):
                    await ask(reason=reason)
            assert run.status is before
        await running.cancel()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"store": None}, "store is of type NoneType and must be a URL or a Store"),
        ({"store": Path("my.db")}, "a file is named by 'sqlite:///my.db'"),
        ({"dags": "dag.yaml"}, "dags is one definition and must be a list of definitions"),
        ({"dags": DAG}, "dags is one definition"),
        ({"functions": [works]}, "functions is of type list and must be a mapping of names to callables"),
        ({"functions": {"t:works": "works"}}, r"functions\['t:works'\] is of type str and must be a callable"),
        ({"search_paths": "lib"}, "search_paths is one folder and must be a list of folders"),
        ({"settings": {"drain_s": 1}}, "settings is of type dict and must be a Settings"),
        ({"targets": Functions(limit=2)}, "targets is of type Functions and must be a list of settings"),
        ({"targets": "Function"}, "targets is of type str and must be a list of settings"),
        ({"targets": 5}, "targets is of type int and must be a list of settings"),
        ({"targets": [FunctionTarget()]}, r"targets\[0\] is of type FunctionTarget and must be settings of a kind"),
        ({"targets": [Functions(), Functions(limit=1)]}, r"targets\[1\] is the second Functions of the list"),
        ({"targets": {"Program": object()}}, r"targets\['Program'\] is of type object .*, which has resolve, launch"),
    ],
)
def test_an_orchestrator_of_wrong_arguments_is_not_made(arguments: dict[str, Any], said: str) -> None:
    """The error names the argument, what it is and what it must be."""
    with pytest.raises(TypeError, match=f"{said}.*no orchestrator was made"):
        Orchestrator(**{"store": "memory:", **arguments})


def test_a_limit_of_an_unknown_target_type_is_refused() -> None:
    """A limit that would hold for no task names the kind that was meant; limits of given targets are accepted."""
    settings = Settings(launches=LaunchSettings(limits={"Dataflo": 3}))
    with pytest.raises(
        InvalidSettingError, match=r"'Dataflo' \(did you mean 'Dataflow'\?\), so no orchestrator was made"
    ):
        Orchestrator("memory:", settings=settings)
    assert Orchestrator("memory:", settings=settings, targets={"Dataflo": FunctionTarget()}).settings is settings


def test_a_client_of_a_store_in_memory_is_not_made() -> None:
    """No other process can carry out its runs: their callers would wait for ever."""
    with pytest.raises(AiorchError, match=r"no other process can open the store 'memory:'.*no client was made. Use an"):
        Client("memory:")
