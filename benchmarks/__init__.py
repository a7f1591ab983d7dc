"""Benchmarks: what the proxy saves, and how fast it is."""
