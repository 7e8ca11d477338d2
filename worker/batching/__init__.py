"""Forms micro-batches from the windows of many shards."""
