"""Cuts texts into windows and merges spans into entities. Pure."""
