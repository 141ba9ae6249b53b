"""
Cases: tests of a definition in virtual time, with scripted answers in place of the targets.

`records` (a case and its outcome), `files` (cases in a YAML or JSON file), `names` (the names of a case against its
DAG), `target` (the answers of a case in place of every target), `runner` (one case, carried out by the engine),
`compare` (the outcome against the expectation), `report` (lines about an outcome).
"""
