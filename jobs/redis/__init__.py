"""Connections to Redis: clients, Sentinels, pipelining."""
