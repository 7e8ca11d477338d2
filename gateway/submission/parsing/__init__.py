"""Parses a request body: bytes -> JSON -> a checked head and checked documents. Pure."""
