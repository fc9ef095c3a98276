"""Trains, evaluates and reports: `python run.py --config=configs/digits_rigl.py`.

The door of a checkout. All of it is in `dst_jax.cli`, also the installed command `dst-jax`.
"""

import sys

from dst_jax.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv))
