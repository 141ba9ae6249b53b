"""Reading definitions: JSON, YAML, files and mappings; what is wrong with the text itself; positions."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from aiorch.definition import syntax
from aiorch.definition.build import DAGBuilder
from aiorch.definition.files import folder_of
from aiorch.definition.source import LoadedDefinition, format_path, load_definition, parse_definition
from aiorch.definition.syntax import NESTING_MAX, TEXT_BYTES_MAX
from aiorch.errors import DefinitionError, Problem

LIBYAML_NESTING_MAX = 1000
"""Limit of the C parser's own, where it has one: it reads so far ahead before we see the first level."""


@pytest.fixture(params=["libyaml", "pure"])
def yaml_parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both parsers of PyYAML: the C one is missing on some platforms."""
    if request.param == "pure":
        monkeypatch.delattr(yaml, "CBaseLoader", raising=False)
    return request.param


def parse_yaml(text: str) -> Any:
    return parse_definition(text, source="dag.yaml", format="yaml").data


def parse_json(text: str) -> Any:
    return parse_definition(text, source="dag.json", format="json").data


def refused(text: str, language: str) -> Problem:
    """Return the one problem that keeps *text* from being read."""
    with pytest.raises(DefinitionError) as raised:
        parse_definition(text, source="dag", format=language)
    (problem,) = raised.value.problems
    assert str(raised.value).startswith("dag is not valid (1 problem), so no run was started:")
    return problem


def test_the_same_definition_reads_the_same_in_json_and_yaml():
    """Both languages give equal plain data, nested and with every kind of value."""
    data = {"a": [1, -2.5, "x", True, False, None, {"b": {"c": []}}], "ü": "ß", "d": {}}
    assert parse_json(json.dumps(data, indent=1)) == data
    assert parse_yaml(yaml.safe_dump(data, allow_unicode=True)) == data
    assert parse_yaml(json.dumps(data)) == data


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(
            (word, word)
            for word in ("on", "off", "yes", "no", "Yes", "ON", "y", "n", "1_000", "12:30:45", "2020-01-01", "0b1")
        ),
        *((word, True) for word in ("true", "True", "TRUE")),
        *((word, False) for word in ("false", "False", "FALSE")),
        *((word, None) for word in ("null", "~", "Null", "NULL", "")),
        *(("'true'", "true"), ('"1"', "1"), ("!!str 1", "1"), ("! 1", "1"), ("'~'", "~")),
        *(("0", 0), ("-7", -7), ("+7", 7), ("010", 10), ("0o17", 15), ("0xfF", 255)),
        *((".5", 0.5), ("1.", 1.0), ("1e3", 1000.0), ("-1.5E-2", -0.015), ("1.2.3", "1.2.3"), ("0x", "0x"), (".", ".")),
    ],
)
def test_yaml_scalars_mean_what_yaml_1_2_says(yaml_parser: str, text: str, value: Any):
    """Only true and false are booleans; dates, sexagesimals and binaries stay text."""
    found = parse_yaml(f"key: {text}")["key"]
    assert found == value
    assert type(found) is type(value)


def test_yaml_keys_are_their_text(yaml_parser: str):
    """`on` is a key of `retry`; no key turns into a boolean, a number or null."""
    assert parse_yaml("on: 1\nyes: 2\n3: 4\nnull: 5\n'': 6\n1.0: 7\n") == {
        "on": 1, "yes": 2, "3": 4, "null": 5, "": 6, "1.0": 7
    }  # fmt: skip


def test_yaml_aliases_stand_for_what_is_anchored(yaml_parser: str):
    """Anchors of mappings, lists, scalars and keys can be used again."""
    data = parse_yaml("a: &m {x: [1]}\nb: *m\nc: &s text\nd: *s\n&k e: *k\n")
    assert data == {"a": {"x": [1]}, "b": {"x": [1]}, "c": "text", "d": "text", "e": "e"}


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ('{"start": "A",}', 1, None, ""),
        ('{\n  "start": "A"\n  "steps": {}}', 3, 3, "expecting ',' delimiter"),
        ("{'start': 'A'}", 1, 2, "strings and keys need double quotes"),
        ('{"start": "A" // first\n}', 1, 15, "JSON has no comments"),
        ('{"start": "A",\n "steps": {', 2, 12, "the text ends too early"),
        ('{"start": }', 1, 11, "expecting value"),
        ('{"a": "x\ny"}', 1, 9, "invalid control character"),
        ('{"a": 1} {}', 1, 10, "extra data"),
        ("start: A", 1, 1, "expecting value"),
    ],
)
def test_broken_json_is_reported_where_it_breaks(text: str, line: int, column: int | None, words: str):
    """Line, column, reason and hint; the column of a trailing comma differs between versions of Python."""
    problem = refused(text, "json")
    assert problem.path == ""
    assert problem.line == line
    assert column is None or problem.column == column
    assert problem.message.startswith("this is not JSON: ")
    assert words in problem.message


def test_a_comma_too_many_in_json_is_named():
    """The most frequent mistake of all says what it is, whichever version of Python reads it."""
    for text in ('{"start": "A",}', '{"steps": [1, ]}'):
        assert "comma" in refused(text, "json").message


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ("start: A\nsteps: b: c\n", 2, 9, "put text with ': ' in quotes"),
        ("start: A\nsteps:\n\tA: {}\n", 3, 1, "indent with spaces, not with tabs"),
        ("start: A\nsteps: [1, 2\n", None, None, "flow sequence"),
        ("start: 'A\n", None, None, "quoted scalar"),
        ("- a\nb: 1\n", 2, 1, ""),
        ("start: @A\n", 1, 8, "cannot start any token"),
        ("a: {b: ${ input.x }, c: 1}\n", None, None, 'inside { } and [ ], put "${ … }" in quotes'),
        ("a: [${ input.x }]\n", None, None, "and use ' for texts inside"),
        ("when: !input.x > 3\n", None, None, "write `not` in place of `!`"),
        ("when: 'a' == input.x\nb: 1\n", None, None, "put the whole value in the other quotes"),
    ],
)
def test_broken_yaml_is_reported_where_it_breaks(
    yaml_parser: str, text: str, line: int | None, column: int | None, words: str
):
    """Line, column, reason and hint, from either parser (they differ about where an unclosed thing is noticed)."""
    problem = refused(text, "yaml")
    assert problem.message.startswith("this is not YAML: ")
    assert words in problem.message
    assert problem.line is not None
    assert problem.column is not None
    assert line is None or (problem.line, problem.column) == (line, column)


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ("a: 1\nb: !!python/object/apply:os.system [ls]\n", 2, 4, "the tag !!python/object/apply:os.system is refused"),
        ("a: !!python/name:os.system ''\n", 1, 4, "plain data only"),
        ("a: !!int '1'\n", 1, 4, "the tag !!int is refused"),
        ("a: !mine {}\n", 1, 4, "the tag !mine is refused"),
        ("when: !input.x\n", 1, 7, "plain data only; for a condition, write `not input.x`"),
        ("when: !(a or b)\n", 1, 7, "write `not (a or b)`"),
        ("when: ! input.x\n", 1, 7, "the tag ! changes nothing here; for a condition, write `not input.x`"),
        ("a: {{ x }}\n", 1, 5, 'an expression is written "${ … }"'),
        ("a: 1\n---\nb: 2\n", 2, 1, "a second YAML document"),
        ("? [a]\n: 1\n", 1, 3, "a key is plain text"),
        ("a: &a 1\n? *a\n: 1\n", 2, 3, "a key is plain text"),
        ("a: *b\n", 1, 4, "no anchor &b"),
        ("a: &a\n  b: *a\n", 2, 6, "the alias *a is inside of its own anchor"),
        ("a: &a {x: 1}\nb:\n  <<: *a\n", 3, 3, "merge"),
        ("a: 'x\x1b[31m'\n", 1, 6, "YAML does not allow the character '\\x1b'"),
    ],
)
def test_yaml_that_is_no_plain_definition_is_refused(yaml_parser: str, text: str, line: int, column: int, words: str):
    """No objects are made, nothing refers to itself, and what YAML 1.2 has not is not read as something else."""
    problem = refused(text, "yaml")
    assert words in problem.message
    assert (problem.line, problem.column) == (line, column)


def test_empty_text_is_reported():
    """An empty file says so in either language."""
    for language in ("json", "yaml"):
        assert "this is empty" in refused("\ufeff \n\n", language).message


def test_a_byte_order_mark_is_taken_off():
    """Text saved by Windows editors reads as any other."""
    assert parse_json('\ufeff{"a": 1}') == parse_yaml("\ufeffa: 1") == {"a": 1}


@pytest.mark.parametrize("language", ["json", "yaml"])
def test_deep_nesting_is_refused_where_it_gets_too_deep(yaml_parser: str, language: str):
    """Hostile depth ends in a clear error with its position, not in a RecursionError or a crash."""
    for levels in (NESTING_MAX + 1, 100_000):
        with pytest.raises(DefinitionError) as raised:
            DAGBuilder(parse_definition("\n" + "[" * levels + "]" * levels, format=language)).build_dag()
        (problem,) = raised.value.problems
        assert "nested more than 500 levels" in problem.message
        assert problem.line == 2
        assert problem.column in (NESTING_MAX + 1, LIBYAML_NESTING_MAX + 1)


def test_too_long_a_text_is_refused():
    """The limit is in bytes."""
    assert "longer than the 8388608 bytes" in refused('"' + "ü" * (TEXT_BYTES_MAX // 2) + '"', "json").message


def test_too_many_yaml_values_are_refused_while_reading(monkeypatch: pytest.MonkeyPatch):
    """A text below the limit of bytes may still hold more values than are read: reading stops there."""
    monkeypatch.setattr(syntax, "VALUES_MAX", 100)
    problem = refused("[" + "1,\n" * 1000 + "@", "yaml")
    assert "holds more than the 250000 values" in problem.message
    assert 100 < (problem.line or 0) < 500


def test_a_key_that_stands_twice_is_found_wherever_it_is(yaml_parser: str):
    """Path, line and column of the second one, and the line of the first, in both languages."""
    json_text = '{\n "a": [{"x": 1,\n  "x": 2}],\n "a": 3}'
    yaml_text = "a:\n  - x: 1\n    x: 2\na: 3\n"
    loaded = (
        parse_definition(json_text, source="", format="json"),
        parse_definition(yaml_text, source="", format="yaml"),
    )
    for definition, position in zip(loaded, ((3, 3), (3, 5)), strict=True):
        problems = definition.error(definition.text_findings()).problems
        assert [problem.path for problem in problems] == ["a[0].x", "a"]
        assert (problems[0].line, problems[0].column) == position
        assert "repeated (first on line 2)" in problems[0].message
        assert problems[1].line == 4


def test_positions_are_those_of_key_and_value(yaml_parser: str):
    """Every path leads to its key and its value; a path that does not exist leads to what is around it."""
    yaml_text = "start: A\nsteps:\n  A:\n    on: [x, {y: ü}]\n  B: *z\n".replace("A:\n", "A: &z\n")
    json_text = '{"start": "A",\n "steps": {\n  "A": {\n    "on": ["\\"x", {"y": -1.5e3}]\n  }\n}}'
    for text, language in ((yaml_text, "yaml"), (json_text, "json")):
        loaded = parse_definition(text, source="", format=language)
        assert loaded.position(()) == (1, 1)
        assert loaded.position(("steps", "A")) == (3, 3)
        assert loaded.position(("steps", "A", "on", 1, "missing")) == loaded.position(("steps", "A", "on", 1))
        assert loaded.position(("steps", "A", "on", 1, "y")).line == 4
    loaded = parse_definition(yaml_text, source="", format="yaml")
    assert loaded.position(("steps", "A", "on"), at_value=True) == (4, 9)
    assert loaded.position(("steps", "A", "on", 1, "y"), at_value=True) == (4, 17)
    assert loaded.position(("steps", "B"), at_value=True) == (5, 6)
    assert loaded.position(("steps", "B", "on", 0)) == (4, 10)
    loaded = parse_definition(json_text, source="", format="json")
    assert loaded.position(("steps", "A", "on"), at_value=True) == (4, 11)
    assert loaded.position(("steps", "A", "on", 1, "y"), at_value=True) == (4, 25)


def test_a_mapping_has_no_positions():
    """What did not come from text is reported by its path alone."""
    assert load_definition({"a": 1}).position(("a",)) is None


def test_paths_can_be_read_and_pasted():
    """Simple names stand plain; others are quoted, escaped and cut."""
    assert format_path(()) == ""
    assert (
        format_path(("steps", "Step2", "branches", 1, "steps", "X", "next")) == "steps.Step2.branches[1].steps.X.next"
    )
    assert format_path(("steps", "a.b", "next")) == 'steps["a.b"].next'
    assert format_path(("steps", "é-1_$")) == "steps.é-1_$"
    assert format_path(("steps", "a\x1b[31m\n", "")) == 'steps["a\\u001b[31m\\n"][""]'
    assert len(format_path(("steps", "x" * 10_000))) < 100


@pytest.mark.parametrize("suffix", [".json", ".yaml", ".yml", ".YAML"])
def test_files_are_read_by_their_suffix(tmp_path: Path, suffix: str):
    """The suffix says what is in a file; its name is kept for messages and for the name of the DAG."""
    path = tmp_path / f"nightly.v2{suffix}"
    path.write_text('{"start": "ü"}', encoding="utf-8")
    for name in (path, str(path)):
        loaded = load_definition(name)
        assert isinstance(loaded, LoadedDefinition)
        assert loaded.data == {"start": "ü"}
        assert loaded.source == str(path)
        assert loaded.stem == "nightly.v2"


def test_files_that_cannot_be_read_are_reported(tmp_path: Path):
    """A definition that cannot be read is one problem with a plain reason."""
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "latin.yaml").write_bytes(b"start: A\nsteps: f\xfcr\n")
    cases = {
        "missing.yaml": "the file cannot be read: No such file or directory",
        "folder.yaml": "the file cannot be read: Is a directory",
        "latin.yaml": "this is not UTF-8 text",
        "dag.toml": "not the path of a .json, .yaml or .yml file; the suffix tells",
        "dag": "not the path of a .json, .yaml or .yml file",
        "nul\0.yaml": "the file cannot be read: ",
        "x" * 300 + ".yaml": "the file cannot be read: File name too long",
        "start: A\nsteps: {}": "use parse_definition() for text",
    }
    for name, words in cases.items():
        with pytest.raises(DefinitionError) as raised:
            load_definition(name if "\n" in name else f"{tmp_path}/{name}")
        assert words in str(raised.value), name
        assert "\n\n" not in str(raised.value)
        assert len(str(raised.value)) < 1000
    with pytest.raises(DefinitionError) as raised:
        load_definition(tmp_path / "latin.yaml")
    assert raised.value.problems[0][2:] == (2, 9)


def test_a_file_without_end_is_refused(tmp_path: Path):
    """No more than the limit is read, whatever the file is."""
    path = tmp_path / "endless.yaml"
    path.symlink_to("/dev/zero")
    with pytest.raises(DefinitionError, match="longer than the 8388608 bytes"):
        load_definition(path)


def test_the_folder_of_a_dag_holds_its_definition(tmp_path: Path):
    """A chain and a graph alike are found by the name of their DAG; other files are passed over."""
    task = '{"type": "Task", "target_type": "Function", "target_name": "m:f"}'
    (tmp_path / "graph.json").write_text(f'{{"steps": {{"A": {task}}}}}')
    (tmp_path / "chain.yaml").write_text("name: other\nstart: A\nsteps: {A: {type: Pass, end: true}}")
    (tmp_path / "steps.json").write_text('{"steps": 3}')
    assert [folder_of(dag, [tmp_path]) for dag in ("graph", "other", "chain", "steps")] == [
        tmp_path,
        tmp_path,
        None,
        None,
    ]


def test_importing_aiorch_imports_no_pydantic():
    """Validation is imported by those who build a DAG, and by nobody else."""
    program = (
        "import sys, aiorch, aiorch.definition.source; sys.exit('pydantic' in sys.modules or 'yaml' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
