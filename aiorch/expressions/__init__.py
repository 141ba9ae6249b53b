"""
Expressions of definitions, in the syntax of Google Workflows: `results.Load.rows > input.limit`.

`syntax` reads a text once, when a DAG is built; `evaluate` works a value out, as often as needed. Values are those of
JSON. An expression reads nothing but the names that it is given, and reaches no attribute of a Python object.
"""
