"""The documentation is true: of keys, options, settings, routes, files and names it has all that there are."""

import ast
import json
import re
import shlex
from dataclasses import fields
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
import yaml
from aiohttp import web

import aiorch
from aiorch import Client, Orchestrator, Settings, errors, steps
from aiorch.cli import main as cli
from aiorch.cli import output
from aiorch.definition import models
from aiorch.definition.build import DAGBuilder, NodeFactory
from aiorch.definition.check import Check
from aiorch.definition.references import EVERYWHERE, PLACES
from aiorch.definition.source import parse_definition
from aiorch.expressions.evaluate import evaluate
from aiorch.expressions.functions import FUNCTIONS
from aiorch.expressions.syntax import parse
from aiorch.model.dag import DAG
from aiorch.ports.target import Succeeded
from aiorch.service.metrics import Metrics
from aiorch.service.settings import ServiceSettings, shown_default, variables
from aiorch.settings import LaunchSettings
from aiorch.targets.kind import load, target_kinds
from aiorch.testing import Answer, Case, Expectation, run_case
from aiorch.testing.cases.files import CaseInFile, CasesFile
from aiorch.web.server import make_app
from tests.documentation import PAGES, REPOSITORY, Block, anchors, blocks, named, rows, section

BLOCKS = [block for page in PAGES for block in blocks(page)]
COMMANDS = cli.cli.commands


def of_language(*languages: str) -> Any:
    found = [block for block in BLOCKS if block.language in languages]
    return pytest.mark.parametrize("block", found, ids=lambda block: f"{block.page}:{block.text[:30]!r}")


def params_of(command: click.Command) -> list[click.Parameter]:
    return command.get_params(click.Context(command))


def first_column(text: str) -> set[str]:
    return {name for row in rows(text) for name in named(row[0])}


# -- pages -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every link within the repository names a file that exists, and a heading that it has."""
    for link in re.findall(r"\]\(([^)#:]*)(?:#([^)]+))?\)", page.read_text()):
        target = page.parent / link[0] if link[0] else page
        assert target.exists(), link
        assert not link[1] or link[1] in anchors(target), link


def test_every_page_can_be_reached() -> None:
    """The README links to every page of the documentation."""
    readme = (REPOSITORY / "README.md").read_text()
    pages = [page.name for page in PAGES if page.parent == REPOSITORY / "docs"]
    assert pages
    assert [name for name in pages if f"(docs/{name}" not in readme] == []


def test_the_readme_opens_with_the_two_commands() -> None:
    """The first block of the README is `make demo` and `make test`, and the Makefile has all targets that it names."""
    makefile = (REPOSITORY / "Makefile").read_text()
    commands = [line.partition("#")[0].strip() for line in blocks(REPOSITORY / "README.md")[0].commands]
    assert commands == ["make demo", "make test"]
    targets = set(re.findall(r"`make (\w+)`", (REPOSITORY / "README.md").read_text()))
    assert targets > {"demo", "test"}
    assert targets <= set(re.findall(r"^(\w+):", makefile, re.MULTILINE))


def test_no_text_installs_from_the_package_index() -> None:
    """No file says `pip install` and the name of the package: on the package index the name is not ours."""
    folders = ("aiorch", "benchmarks", "deploy", "docs", "examples", "tests", "tools", ".ci")
    files = [path for folder in folders for path in (REPOSITORY / folder).rglob("*")]
    texts = [path for path in (*REPOSITORY.iterdir(), *files) if path.is_file() and path.suffix != ".pyc"]
    from_index = re.compile(rb"pip3?\s+install(?:\s+-\S+)*\s+['\"]?aiorch\b")
    assert from_index.search(b" ".join([b"pip install -U", b"'aiorch[test]'"]))
    assert len(texts) > 200
    assert [path for path in texts if from_index.search(path.read_bytes())] == []


# -- examples --------------------------------------------------------------------------------------------------------


@of_language("yaml", "json")
def test_definitions_build(block: Block) -> None:
    """Every definition that is shown can be built, or is shown for its mistakes; a fragment is steps that can be."""
    data = parse_definition(block.text, format="yaml" if block.language == "yaml" else "json").data
    if block.file_name == "typo.yaml":
        with pytest.raises(aiorch.DefinitionError):
            DAGBuilder(data).build_dag()
    elif "steps" in data:
        DAGBuilder(data).build_dag()
    elif "cases" in data:
        check = Check()
        assert check.validate((), data, CasesFile), check.findings
    else:
        for name, step in data.items():
            NodeFactory.create_node(step, DAG(name), name=name)


@of_language("python")
def test_python_compiles_and_has_a_name(block: Block) -> None:
    """Every Python block compiles, and is a named file, so that the examples are run with it."""
    ast.parse(block.text)
    assert block.file_name is not None


@of_language("sh", "console")
def test_commands_exist(block: Block) -> None:
    """Every command of aiorch that is shown is one, with options that it has."""
    for line in block.commands:
        words = shlex.split(line.partition("|")[0], comments=True) if line.startswith("aiorch ") else ["", "-"]
        if words[1].startswith("-"):
            continue
        known = {name for parameter in params_of(COMMANDS[words[1]]) for name in parameter.opts}
        assert {word for word in words[2:] if word.startswith("--")} <= known, line


# -- definitions -----------------------------------------------------------------------------------------------------


def key_rows(heading: str) -> list[list[str]]:
    """Rows of the table of keys in a section: key, type, default, meaning."""
    return [row for row in rows(section("docs/definitions.md", heading)) if len(row) == 4]


@pytest.mark.parametrize(
    ("heading", "kinds"),
    [
        ("The definition", (models.Definition, models.Branch)),
        ("Every step", (steps.Step, steps.Links, steps.WorkingStep)),
        ("Task", (steps.TaskStep,)),
        *((name, (step,)) for name, step in models.all_steps().items()),
        ("Branch", (models.Branch,)),
        ("finally", (models.FinalLevel,)),
        ("retry", (steps.Retry,)),
        ("catch", (steps.CatchHandler,)),
    ],
)
def test_every_key_is_documented(heading: str, kinds: tuple[type[Any], ...]) -> None:
    """The table of each section has the keys that the language has there, and no others."""
    fields = [(kind, name) for kind in kinds for name in kind.__annotations__ if name in kind.model_fields]
    keys = {kind.model_fields[name].alias or name for kind, name in fields}
    if issubclass(kinds[0], steps.TaskStep) and kinds[0] is not steps.TaskStep:
        keys.discard("target_type")  # the heading says it
    assert {name for row in key_rows(heading) for name in named(row[0])} == keys


@pytest.mark.parametrize(
    ("heading", "model"),
    [
        ("The file", CasesFile),
        ("A case", CaseInFile),
        ("An answer", Answer),
        ("The expected outcome", Expectation),
    ],
)
def test_every_key_of_cases_is_documented(heading: str, model: type[steps.Model]) -> None:
    """The tables of the page about cases have the keys of their files with their defaults, and no others."""
    documented = {named(row[0])[0]: row[2] for row in rows(section("docs/testing.md", heading))}
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    assert documented.keys() == fields.keys()
    for name, default in documented.items():
        assert (default == "required") == fields[name].is_required(), name
        if re.fullmatch(r"`[\w.{}+:-]+`", default):
            made = fields[name].get_default(call_default_factory=True)
            written = named(default)[0]
            assert (written if isinstance(made, str) else yaml.safe_load(written)) == made, name


def test_the_names_for_cases_are_documented() -> None:
    """The table of the Python side of cases has the arguments that each name takes."""
    signatures = [row[0] for row in rows(section("docs/testing.md", "In a test of your own"))]
    for kind, arguments in (
        (Case, [each.name for each in fields(Case)]),
        (Answer, [*Answer.model_fields]),
        (Expectation, [*Expectation.model_fields]),
        (run_case, [name for name in run_case.__annotations__ if name != "return"]),
    ):
        found = next(cell for cell in signatures if cell.startswith(f"`{kind.__name__}("))
        assert [*re.findall(r"\w+", found)][1:] == arguments


@pytest.mark.parametrize("kind", [steps.Links, steps.TaskStep, steps.Retry, models.all_steps()["CloudFunction"]])
def test_documented_defaults_are_those_of_the_language(kind: type[Any]) -> None:
    """A default that is written as a value is the one that the language has."""
    headings = {steps.Links: "Every step", steps.TaskStep: "Task", steps.Retry: "retry"}
    for key, _, default, _ in key_rows(headings.get(kind, "CloudFunction")):
        if re.fullmatch(r"`[\w.{}]+`", default):
            field = kind.model_fields[named(key)[0]]
            assert yaml.safe_load(named(default)[0]) == field.get_default(call_default_factory=True), key


def test_every_type_of_failure_is_documented() -> None:
    """The table has the types that the checks of `on` know."""
    known = set(steps.FAILURES_OF_TASKS) - {"Error", "InternalError"}
    for name, step in models.all_steps().items():
        known |= step.failure_types({"error": "x"}).known - {"x", "Error", "InternalError"}
        assert name != "Task"
    named_ones = {name for row in rows(section("docs/definitions.md", "Types of failures")) for name in named(row[0])}
    assert {name for name in known if not re.fullmatch(r"[1-5]xx", name)} <= named_ones


def test_every_function_of_expressions_is_documented_with_a_value() -> None:
    """The table has every function once, and each call has the value that is shown."""
    table = [row for row in rows(section("docs/expressions.md", "Functions")) if len(row) == 3]
    calls = {named(call)[0]: named(value)[0] for call, value, _ in table}
    assert [call.partition("(")[0] for call in calls] == list(FUNCTIONS)
    for call, value in calls.items():
        found = evaluate(parse(call), {"input": {}})
        assert (found, type(found)) == (json.loads(value), type(json.loads(value))), call


def test_every_form_of_expressions_is_valid() -> None:
    """The examples of the syntax are expressions."""
    for _, examples in rows(section("docs/expressions.md", "Syntax")):
        for example in named(examples):
            if not re.fullmatch(r"[^\w\"'\[{]+|in|not in|and|or|not", example):
                parse(example)


def test_every_name_of_expressions_is_documented() -> None:
    """The table has every name that an expression may read, and no other."""
    documented = {re.split(r"[.\[]", name)[0] for name in first_column(section("docs/expressions.md", "Names"))}
    assert documented == EVERYWHERE | PLACES.keys()


@of_language("jsonc", "yml", "py")
def test_definitions_in_other_languages_are_well_formed(block: Block) -> None:
    """What other systems read is JSON, YAML or Python."""
    {"jsonc": json.loads, "yml": yaml.safe_load, "py": ast.parse}[block.language](block.text)


def test_every_attribute_of_the_context_is_documented() -> None:
    """The table of the context has what a `TaskContext` has."""
    attributes = {name for name in dir(aiorch.TaskContext) if not name.startswith("_")}
    assert first_column(section("docs/definitions.md", "The context")) == attributes


# -- the command line ------------------------------------------------------------------------------------------------


def options_of(name: str, command: click.Command) -> dict[str, tuple[str, Any]]:
    prefix = f"AIORCH_{name.upper()}_" if name else "AIORCH_"
    options = [each for each in params_of(command) if isinstance(each, click.Option) and not each.is_eager]
    return {each.opts[-1]: (str(each.envvar or f"{prefix}{str(each.name).upper()}"), each.default) for each in options}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_documented(name: str) -> None:
    """The section of each command has its options, with their environment variables and defaults, and no others."""
    documented = {named(row[0])[0]: row for row in rows(section("docs/cli.md", f"aiorch {name}")) if "`--" in row[0]}
    options = options_of(name, COMMANDS[name])
    assert documented.keys() == options.keys()
    for option, (variable, default) in options.items():
        assert named(documented[option][1]) == [variable]
        if isinstance(default, str | int | float) and not isinstance(default, bool):
            assert named(documented[option][2]) == [f"{default:g}" if isinstance(default, float) else str(default)]


def test_every_command_is_in_the_list() -> None:
    """The list at the top has every command; so has the section for all commands every option of the group."""
    assert first_column(section("docs/cli.md", "The command line")) == {f"aiorch {name}" for name in COMMANDS}
    common = first_column(section("docs/cli.md", "For all commands"))
    assert common == {*options_of("", cli.cli), "--version", "--help"}


def test_every_exit_code_is_documented() -> None:
    """The table has every code that the command line can end with, and no others."""
    codes = {value for name, value in vars(output).items() if name.isupper() and type(value) is int}
    assert {int(row[0]) for row in rows(section("docs/cli.md", "Exit codes"))} == codes
    for code in map(int, re.findall(r"^ +(\d+)  ", cli.EPILOG, re.MULTILINE)):
        assert code in codes


def test_every_variable_that_is_named_exists() -> None:
    """No page names an environment variable that nothing reads."""
    known = {variable for name, command in COMMANDS.items() for variable, _ in options_of(name, command).values()}
    known |= {variable for variable, _ in options_of("", cli.cli).values()}
    known |= {variable for field in ServiceSettings.model_fields for variable in variables(field)}
    for page in PAGES:
        assert set(re.findall(r"\bAIORCH_\w+", page.read_text())) <= known, page.name


async def test_every_route_is_documented() -> None:
    """The table of requests has the routes of the HTTP endpoint, and no others."""
    app = make_app(Orchestrator("memory:"))
    routes = {
        f"{route.method} {route.resource.canonical}"
        for route in app.router.routes()
        if isinstance(route.resource, web.Resource) and route.method != "HEAD"
    }
    requests = {name for row in rows(section("docs/cli.md", "aiorch serve")) for name in named(row[0]) if "/" in name}
    assert requests == routes


# -- the library -----------------------------------------------------------------------------------------------------


def test_every_setting_is_documented() -> None:
    """The tables of settings have the fields of both classes, with their defaults, and no others."""
    text = section("docs/library.md", "Settings")
    documented = {named(row[0])[0]: row[1] for row in rows(text)}
    both = {each.name: each for each in chain(fields(LaunchSettings), fields(Settings))}
    assert documented.keys() == both.keys()
    for name, default in documented.items():
        if re.fullmatch(r"`[^`]+`", default):
            assert ast.literal_eval(named(default)[0]) == both[name].default, name


def test_every_error_is_documented() -> None:
    """The table of errors has every exception that is raised on purpose."""
    kinds = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}
    assert first_column(section("docs/library.md", "Errors")) == kinds - {"AiorchError"}


def test_every_public_name_is_documented() -> None:
    """The page of the library mentions everything that can be imported from the package."""
    text = (REPOSITORY / "docs/library.md").read_text()
    assert [name for name in aiorch._HOME_OF if not re.search(rf"\b{name}\b", text)] == []


@pytest.mark.parametrize("kind", [Client, Orchestrator], ids=["Client", "Orchestrator"])
def test_every_argument_and_method_is_documented(kind: type[Client]) -> None:
    """The section of a class has every argument, every public method of its own, and no other."""
    text = section("docs/library.md", kind.__name__)
    arguments = set(kind.__init__.__annotations__) - {"return"}
    methods = {name for name, value in vars(kind).items() if not name.startswith("_") and callable(value)}
    documented = first_column(text)
    if kind is Client:
        text = text.partition("\n")[2]
        assert all(re.search(rf"`Client\(.*\b{name}\b.*\)`", text) for name in arguments)
    else:
        assert {name for name in documented if name.isidentifier()} == arguments
    assert {re.sub(r"^await |\(.*", "", name) for name in documented if "(" in name} == methods


# -- the service -----------------------------------------------------------------------------------------------------


def test_every_setting_of_the_service_is_documented() -> None:
    """The table has the variables of every setting, the one that wins first, with the defaults, and no others."""
    documented = {tuple(named(row[0])): named(row[1]) for row in rows(section("docs/service.md", "Settings"))}
    expected = {
        variables(field): [shown] if (shown := shown_default(field)) else [] for field in ServiceSettings.model_fields
    }
    assert documented == expected


def test_every_metric_is_documented() -> None:
    """The table has every metric of the service with its labels, and none that there is not."""
    messages = SimpleNamespace(is_paused=False, outstanding=0, oldest_unacked_s=0.0, pull_errors=0)
    for state in ("received", "acked", "nacked", "let_go", "unheard"):
        setattr(messages, state, 0)
    metrics = Metrics()
    metrics.watch(Orchestrator("memory:"), store_operations={"A": 0}, messages=messages)
    metrics.message_settled("start", "applied", 0)
    metrics.committed(1, 0)
    metrics.launched(aiorch.TargetTypes.FUNCTION)
    metrics.ended(aiorch.TargetTypes.FUNCTION, Succeeded(), 0)
    families = [family for family in metrics.registry.collect() if family.name.startswith("aiorch")]
    endings = {"counter": "_total", "info": "_info"}
    found = {
        family.name + endings.get(family.type, ""): {
            label for sample in family.samples for label in sample.labels if label != "le"
        }
        for family in families
    }
    documented = {named(row[0])[0]: set(named(row[1])) for row in rows(section("docs/service.md", "Metrics"))}
    assert documented == found


def test_every_route_of_the_service_is_documented() -> None:
    """What is said about routes that stay open while the service is not ready is what the server does."""
    requests = {name for row in rows(section("docs/service.md", "Routes")) for name in named(row[0])}
    assert requests == {"GET /metrics", "GET /readyz", "GET /healthz"}


ROOT_FILES = {
    "__init__.py",
    "__main__.py",
    "client.py",
    "errors.py",
    "orchestrator.py",
    "py.typed",
    "run_handle.py",
    "settings.py",
    "steps.py",
}


def test_every_setting_of_a_target_is_documented() -> None:
    """The table has the classes of the built-in kinds, each with its settings."""
    classes = [load(kind.settings) for kind in target_kinds().values()]
    table = rows(section("docs/library.md", "Settings of targets"))
    documented = {named(name)[0]: set(named(settings)) for name, settings in table}
    assert documented == {each.__name__: {field.name for field in fields(each)} for each in classes}


# -- the architecture ------------------------------------------------------------------------------------------------


def test_every_folder_is_in_the_list_of_folders() -> None:
    """The list has every folder of the package, and none that does not exist."""
    package = REPOSITORY / "aiorch"
    folders = {f"{path.name}/" for path in package.iterdir() if (path / "__init__.py").exists()}
    assert first_column(section("docs/architecture.md", "The folders")) == {"aiorch/", *folders}


def test_the_root_of_the_package_holds_few_files() -> None:
    """A module that is no entrance for programs has its place in a folder."""
    files = {path.name for path in (REPOSITORY / "aiorch").iterdir() if path.is_file()}
    assert files == ROOT_FILES
