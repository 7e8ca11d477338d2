"""Runs claimed shards and stores their results."""
