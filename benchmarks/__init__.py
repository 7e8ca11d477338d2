"""Benchmarks of the whole service; `make bench` runs them all."""
