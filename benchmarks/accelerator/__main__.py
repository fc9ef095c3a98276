"""`python -m benchmarks.accelerator`: what must be said before JAX is imported, then `command`."""

import os
import sys

# Processes that share the accelerator (stage a's restart, PyTorch in stage b) must find memory.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

try:
    from benchmarks.accelerator import command
except ModuleNotFoundError as error:  # a checkout on a bare machine: a packed folder brings them
    print(
        f"benchmarks.accelerator: found no {error.name}; expected dst_jax installed, or a folder "
        "that python -m benchmarks.accelerator --pack=DIR wrote elsewhere",
        file=sys.stderr,
    )
    sys.exit(2)

if __name__ == "__main__":
    sys.exit(command.main(sys.argv[1:]))
