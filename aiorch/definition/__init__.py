"""
The language of DAG definitions: reading text, its models, all that can be wrong with one, and the DAG that it becomes.

From the text inwards: `syntax` (JSON and YAML with positions), `source` (files), `plain` (JSON types only, callables by
name), `models` (keys, types and limits), `chain` and `check` (every problem at once),
`build` (from the checked definition to a `DAG`), `files` (definition files in folders).
"""
