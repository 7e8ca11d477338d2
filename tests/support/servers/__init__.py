"""Servers that tests start: Redis, TLS, DNS, proxies, receivers."""
