"""The model side: intake -> windows -> micro-batch -> engine, and back."""
