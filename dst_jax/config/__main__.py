"""Lists every option: `python -m dst_jax.config`."""

from dst_jax.config.options import OPTIONS

if __name__ == "__main__":
    for name, option in OPTIONS.items():
        print(f"{name} = {option.default!r}\n    {option.meaning}; {option.expected()}")
