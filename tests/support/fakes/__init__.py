"""Stand-ins for the seams of the gateway, for its unit tests."""
