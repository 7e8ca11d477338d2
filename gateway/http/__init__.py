"""The HTTP server, its middleware, error responses and OpenAPI."""
