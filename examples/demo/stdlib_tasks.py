"""
The tasks of ``stdlib.yaml``: each takes its context and returns a JSON value.

The sync tasks run in threads, the async one on the event loop.
"""

import ast
import keyword
import os
import re
import sysconfig
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aiorch import TaskContext

NOT_THE_LIBRARY = {"__pycache__", "dist-packages", "idle_test", "lib2to3", "site-packages", "test", "tests"}
MOST_USED = 10
JUDGED = 300
"""Number of identifiers in the request to the function."""


def list_sources(context: TaskContext) -> dict[str, Any]:
    """Find the sources of the standard library of this Python."""
    root = Path(sysconfig.get_path("stdlib"))
    found: list[Path] = []
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = sorted(set(subfolders) - NOT_THE_LIBRARY)
        found += [Path(folder, name) for name in sorted(files) if name.endswith(".py")]
    chosen = found[:: context.parameters["every"]]
    return {
        "root": str(root),
        "of": len(found),
        "bytes": sum(path.stat().st_size for path in chosen),
        "files": [str(path.relative_to(root)) for path in chosen],
    }


def count_lines(context: TaskContext) -> dict[str, int]:
    """Count lines: all lines, blank lines, comment lines."""
    counts: Counter[str] = Counter()
    for text in _texts(context):
        for line in text.splitlines():
            counts["lines"] += 1
            counts["blank"] += not line.strip()
            counts["comments"] += line.lstrip().startswith("#")
    return dict(counts)


def count_words(context: TaskContext) -> dict[str, Any]:
    """Count all words."""
    words: Counter[str] = Counter()
    for text in _texts(context):
        words.update(word.lower() for word in re.findall(r"[A-Za-z]{2,}", text))
    return {"words": words.total(), "distinct": len(words), "most_used": dict(words.most_common(MOST_USED))}


def count_identifiers(context: TaskContext) -> dict[str, Any]:
    """Count names as the tokenizer sees them, keywords aside."""
    names: Counter[str] = Counter()
    for path in _paths(context):
        with path.open("rb") as file:
            names.update(token.string for token in tokenize.tokenize(file.readline) if token.type == tokenize.NAME)
    for each in keyword.kwlist:
        del names[each]
    return {"identifiers": names.total(), "distinct": len(names), "most_used": dict(names.most_common(JUDGED))}


def count_imports(context: TaskContext) -> dict[str, Any]:
    """Count the imported top-level modules, from the syntax tree."""
    modules: Counter[str] = Counter()
    for path in _paths(context):
        for node in ast.walk(ast.parse(path.read_bytes(), path)):
            if isinstance(node, ast.Import):
                modules.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules[node.module.partition(".")[0]] += 1
    return {"imports": modules.total(), "distinct": len(modules), "most_used": dict(modules.most_common(MOST_USED))}


def identifiers_to_judge(context: TaskContext) -> dict[str, Any]:
    """Return the parameters of the function call: called just before it, with the results so far."""
    return {"identifiers": context.results["CountIdentifiers"]["most_used"]}


async def merge(context: TaskContext) -> dict[str, Any]:
    """Combine the counts of all branches."""
    results = context.results
    return {
        "files": len(results["ListSources"]["files"]),
        "of": results["ListSources"]["of"],
        "bytes": results["ListSources"]["bytes"],
        **results["CountLines"],
        "words": results["CountWords"]["words"],
        "identifiers": results["CountIdentifiers"]["identifiers"],
        "imports": results["CountImports"]["imports"],
    }


def write_report(context: TaskContext) -> dict[str, Any]:
    """Write the report as Markdown. A second call writes the same file."""
    path = Path(context.parameters["path"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(_report(context)), encoding="utf-8")
    return {"report": str(path), **context.results["Merge"]}


def _report(context: TaskContext) -> Iterator[str]:
    results, totals = context.results, context.results["Merge"]
    yield f"# {totals['files']} of the {totals['of']} files of the standard library\n"
    yield f"Read from `{results['ListSources']['root']}` by run `{context.run_id}`.\n"
    yield from _table("What", "Number", {kind: count for kind, count in totals.items() if kind not in {"files", "of"}})
    for title, node in (("Words", "CountWords"), ("Identifiers", "CountIdentifiers"), ("Modules", "CountImports")):
        most_used = results[node]["most_used"]
        yield f"## {title} used most, of {results[node]['distinct']:,} different ones\n"
        yield from _table(title, "Uses", dict(list(most_used.items())[:MOST_USED]))
    yield f"## Styles of the {JUDGED} most used identifiers\n"
    yield from _table("Style", "Identifiers", results["NamingStyles"])


def _table(name: str, number: str, rows: dict[str, int]) -> Iterator[str]:
    yield f"| {name} | {number} |"
    yield "|---|---:|"
    yield from (f"| {what} | {count:,} |" for what, count in rows.items())
    yield ""


def _paths(context: TaskContext) -> Iterator[Path]:
    sources = context.results["ListSources"]
    return (Path(sources["root"], name) for name in sources["files"])


def _texts(context: TaskContext) -> Iterator[str]:
    for path in _paths(context):
        with tokenize.open(path) as file:  # in the encoding that the source declares
            yield file.read()
