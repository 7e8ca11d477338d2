"""Model files: fetched, checked, converted and completed."""
