"""Bodies of the API, as OpenAPI documents them."""
