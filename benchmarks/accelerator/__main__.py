"""`python -m benchmarks.accelerator`: what must be said before JAX is imported, then `command`."""

import os
import sys

# Processes that share the accelerator (stage a's restart, PyTorch in stage b) must find memory.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from benchmarks.accelerator import command

if __name__ == "__main__":
    sys.exit(command.main(sys.argv[1:]))
