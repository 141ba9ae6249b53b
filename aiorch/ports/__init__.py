"""
The needs of the engine, as small protocols of its own. All code that meets a need is an adapter.

`ObjectStore` and `Liveness` keep state, `EventSource` brings messages, `Target` does work, `Clock` and `Entropy`
are the only sources of time of day and of chance, `Observer` receives the facts for metrics.
"""

from aiorch.ports.context import TaskContext as TaskContext
from aiorch.ports.observer import NoObserver as NoObserver
from aiorch.ports.observer import Observer as Observer
from aiorch.ports.source import Delivery as Delivery
from aiorch.ports.source import EventSource as EventSource
from aiorch.ports.store import LOCAL_PACE as LOCAL_PACE
from aiorch.ports.store import Liveness as Liveness
from aiorch.ports.store import ObjectInfo as ObjectInfo
from aiorch.ports.store import ObjectStore as ObjectStore
from aiorch.ports.store import Pace as Pace
from aiorch.ports.store import Store as Store
from aiorch.ports.store import StoredObject as StoredObject
from aiorch.ports.target import Accepted as Accepted
from aiorch.ports.target import Answer as Answer
from aiorch.ports.target import Failed as Failed
from aiorch.ports.target import NotStarted as NotStarted
from aiorch.ports.target import PolledTarget as PolledTarget
from aiorch.ports.target import Succeeded as Succeeded
from aiorch.ports.target import Target as Target
from aiorch.ports.target import Unknown as Unknown
from aiorch.ports.world import Clock as Clock
from aiorch.ports.world import Entropy as Entropy
