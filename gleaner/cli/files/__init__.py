"""Reads input files and writes output files."""
