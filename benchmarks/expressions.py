"""
The expressions of definitions: the time of a condition, and of an item in a filter.

Each figure but one is about an expression that was read before. The filters go through lists of two lengths: an item of
the longer list should cost the same.

    python benchmarks/expressions.py --repeat 9
"""

import os
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from measuring import Line, arguments, environment, in_rounds, positive, rounded, tell

from aiorch.expressions.evaluate import evaluate
from aiorch.expressions.syntax import parse, parse_template

LENGTHS = (1_000, 100_000)
FILTER = "[f.name for f in input.files if f.size > 0]"


def time_us(work: Callable[[], Any], calls: int) -> float:
    """Return the CPU time of one call, over *calls* calls."""
    begin = time.process_time()
    for _ in range(calls):
        work()
    return (time.process_time() - begin) / calls * 1e6


def all_cases(calls: int) -> dict[str, Callable[[], float]]:
    """Return a measurement for each figure."""
    names = {"results": {"Load": {"rows": 7}}, "input": {"limit": 5, "day": "2026-11-28"}}
    condition, text = (
        parse("results.Load.rows > input.limit"),
        parse_template("day ${ input.day }, ${ input.limit } rows"),
    )
    cases = {
        "condition_us": lambda: time_us(lambda: evaluate(condition, names), calls),
        "template_us": lambda: time_us(lambda: evaluate(text, names), calls),
        "parse_us": lambda: time_us(lambda: parse(FILTER), max(1, calls // 50)),
    }
    for length in LENGTHS:
        cases[f"filter_{length}_item_us"] = _filtering(length, max(1, calls * 10 // length))
    return cases


def _filtering(length: int, calls: int) -> Callable[[], float]:
    names = {"input": {"files": [{"name": "a", "size": number % 3} for number in range(length)]}}
    expression = parse(FILTER)
    return lambda: time_us(lambda: evaluate(expression, names), calls) / length


def main() -> None:
    parser = arguments("Measure the values of expressions.")
    parser.add_argument("--calls", type=positive, default=20_000, metavar="N", help="of a measurement (default: 20000)")
    options = parser.parse_args()
    load = os.getloadavg()
    cases = all_cases(options.calls)
    rounds, result = in_rounds(cases, options.repeat)
    long, short = (f"filter_{length}_item_us" for length in reversed(LENGTHS))
    result["filter_ratio"] = rounded(median(each[long] / each[short] for each in rounds))
    lines = [
        Line("a condition, us", "condition_us", "3"),
        Line("a text with two expressions, us", "template_us"),
        Line("reading a filter, us", "parse_us"),
        *(Line(f"a filter of {length:,} items, us an item", f"filter_{length}_item_us", "2") for length in LENGTHS),
        Line(f"an item of {LENGTHS[1]:,} against one of {LENGTHS[0]:,}", "filter_ratio", "about 1"),
    ]
    tell({**result, **environment(options, load)}, "expressions", lines, as_json=options.json)


if __name__ == "__main__":
    main()
