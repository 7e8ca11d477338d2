"""Loads a model and runs it."""
