"""Turns a request into a job in the ledger."""
