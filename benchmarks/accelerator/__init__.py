"""One command for a short time with an accelerator: `python -m benchmarks.accelerator`.

`docs/accelerator.md` says how to pack, what to run and what it writes. `stages` is the interface of
a part and the list of all parts, `command` the flags and the loop over them; each other module that
has `PARTS` is a stage.
"""
