"""
The steps of the kinds of nodes, one module each, and the table of them.

A kind that is added has a row here. The steps of tasks come from the kinds of targets, see `aiorch.targets.kind`.
"""

STEPS: dict[str, str] = {
    "Parallel": "aiorch.nodes.steps.parallel:ParallelStep",
    "Pass": "aiorch.nodes.steps.pass_:PassStep",
    "Fail": "aiorch.nodes.steps.fail:FailStep",
}
"""The class of the steps, as ``module:class``, by their `type`. It is imported when a definition has the first one."""
