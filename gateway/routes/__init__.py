"""One file a resource; `register` in gateway.app puts them together."""
