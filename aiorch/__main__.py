"""``python -m aiorch``: the command line."""

from aiorch.cli import main

if __name__ == "__main__":
    main()
