"""Protects the gateway from a slow or failed Redis."""
