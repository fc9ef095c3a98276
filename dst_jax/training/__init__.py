"""From a resolved config to a trained checkpoint.

`loop` is the loop, in reading order; `step` is one training step, which `compiled_steps` compiles;
`build` makes the model, the updater and the optimizer from the config. Called by `stages`.
"""
