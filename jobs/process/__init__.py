"""Memory and CPU of the current process."""
