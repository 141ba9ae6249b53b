"""
JSON Schemas (draft 2020-12) that definitions hold: mistakes in a schema, and mistakes in a value.

`schema` checks a schema, `value` checks a value against a schema, `vocabulary` has the values of `type` and `format`.
The library is `jsonschema`, which is imported when a definition has a schema. Four rules keep every check short and
free of I/O:

- A schema refers to its own parts only (``$ref: '#/…'``), and never back to itself about the same value.
- The engine of patterns is that of pydantic, which does not backtrack: its time is in proportion to the text.
- One start takes a limited number of checks, whatever the schema: see `value.CHECKS_MAX`.
- Schemas have a limited depth, because the library recurses: see `schema.DEPTH_MAX`.
"""
