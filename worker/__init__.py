"""The model side: claimed shard -> windows -> micro-batch -> engine, and back."""
