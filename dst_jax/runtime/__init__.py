"""What every stage of a run needs of the machine: devices, checkpoints, directories, signals.

`devices` is the only file that knows devices, `checkpoint` the only one that knows Orbax.
"""
