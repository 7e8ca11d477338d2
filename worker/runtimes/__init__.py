"""What runs a forward pass: each file here brings one way from named arrays to scores, and nothing else."""
