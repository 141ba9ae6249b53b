"""The service, as ``python -m aiorch.service``: see `aiorch.service.__main__`."""

from aiorch.service.__main__ import main

if __name__ == "__main__":
    main()
