"""The command line: `commands` are thin over the public API, `options` are theirs, `foreground` runs one to its end."""
