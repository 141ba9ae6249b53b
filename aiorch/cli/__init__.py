"""The command line: `main` gathers the commands, each group of them has a module; `foreground` runs one to its end."""
