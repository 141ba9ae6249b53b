"""One process at work: it commits the events of runs, and launches the tasks that committed runs owe."""

from aiorch.engine.execution_context import CurrentExecution as CurrentExecution
from aiorch.engine.execution_context import ExecutionFilter as ExecutionFilter
from aiorch.engine.execution_context import current_execution as current_execution
from aiorch.engine.executor import DAGExecutor as DAGExecutor
