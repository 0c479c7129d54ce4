"""How close to the limit, how far ahead: `python -m benchmarks --help`."""
