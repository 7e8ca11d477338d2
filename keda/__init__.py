"""Scaling of workers: KEDA's objects, and a simulator of their behaviour."""
