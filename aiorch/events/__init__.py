"""Events, and the decoding of messages into events. Pure."""

from aiorch.events.decode import EventFactory as EventFactory
from aiorch.events.event import CancelEvent as CancelEvent
from aiorch.events.event import CloudFunctionEvent as CloudFunctionEvent
from aiorch.events.event import Completion as Completion
from aiorch.events.event import DataflowEvent as DataflowEvent
from aiorch.events.event import Event as Event
from aiorch.events.event import Hint as Hint
from aiorch.events.event import StartEvent as StartEvent
