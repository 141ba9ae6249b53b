"""
The steps of the kinds of nodes, one module each, and their table.

A new kind adds a row here. The steps of tasks come from the kinds of targets, see `aiorch.targets.kind`.
"""

STEPS: dict[str, str] = {
    "Choice": "aiorch.nodes.steps.choice:ChoiceStep",
    "Wait": "aiorch.nodes.steps.wait:WaitStep",
    "Parallel": "aiorch.nodes.steps.parallel:ParallelStep",
    "Pass": "aiorch.nodes.steps.pass_:PassStep",
    "Fail": "aiorch.nodes.steps.fail:FailStep",
}
"""By `type`, the class of the steps as ``module:class``, which the first step of that type imports."""
