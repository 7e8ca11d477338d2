"""What gateway and worker share: the job schema, the ledger, the queues, settings and telemetry."""
