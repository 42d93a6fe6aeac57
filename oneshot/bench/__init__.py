"""Benchmarks: the program's speed, measured side by side with the usual way on the same machine."""
