"""What scales the workers: KEDA's objects, and a simulator of what they do."""
