"""``python -m aiorch``: the command line."""

from aiorch.cli.commands import main

if __name__ == "__main__":
    main()
