"""Compares the needs of a release with its cluster: rendered manifests and facts of the cluster become findings."""
