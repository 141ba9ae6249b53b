"""The command line: one module per group of commands. `main` gathers them, `foreground` runs a DAG in a terminal."""
