"""The one thing that pyproject.toml cannot say: the cards of configs/ are installed too.

They are edited at the root of the checkout and become `dst_jax/configs/` of the installed package,
where `dst_jax.config.cards` finds them by name. Everything else is in pyproject.toml.
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["dst_jax*"]), "dst_jax.configs"],
    package_dir={"dst_jax.configs": "configs"},
)
