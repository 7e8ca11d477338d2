"""Logs, traces, metrics and probes of every process."""
