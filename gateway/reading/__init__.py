"""Turns a job's state and results into responses."""
