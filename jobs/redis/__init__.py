"""Connections to Redis: clients, Sentinels, group commit."""
