"""Fetches and checks model files."""
