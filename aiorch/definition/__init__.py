"""
The language of DAG definitions: reading text, its models, all that can be wrong with one. `aiorch.builder` builds DAGs.

From the text inwards: `syntax` (JSON and YAML with positions), `source` (files), `plain` (JSON types only, callables by
name), `models` (keys, types and limits), `chain` and `check` (every problem at once).
"""
