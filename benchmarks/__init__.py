"""Speed of the parts, each against a named alternative; `python -m benchmarks.NAME`."""
