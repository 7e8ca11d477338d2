"""The HTTP server, its middleware, schemas and problems."""
