"""The mock in other people's tests: a pytest plugin. Importing this alone loads nothing."""
