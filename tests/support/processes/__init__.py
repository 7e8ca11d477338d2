"""The service's processes as tests start them."""
