"""From a resolved config to a trained checkpoint.

`loop` is the loop, in reading order; `step` the science of one step, which `compiled_steps` makes
programs of; `updaters` and `optimizer` come from the config. Called by `stages`.
"""
