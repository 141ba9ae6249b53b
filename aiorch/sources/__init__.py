"""Sources of messages: adapters of `aiorch.ports.EventSource`."""

from importlib import import_module

TYPE_CHECKING = False  # see `aiorch`
if TYPE_CHECKING:
    from aiorch.sources.local import LocalSource as LocalSource
    from aiorch.sources.pubsub import PubSubSource as PubSubSource
else:
    _HOMES = {"local": ("LocalSource",), "pubsub": ("PubSubSource",)}
    _HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

    def __getattr__(name: str) -> object:
        if name not in _HOME_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
        return value
