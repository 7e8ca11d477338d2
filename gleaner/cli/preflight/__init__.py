"""What a release needs from its cluster: rendered manifests and facts of the cluster become findings."""
