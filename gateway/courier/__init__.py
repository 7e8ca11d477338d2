"""The process that delivers webhooks."""
