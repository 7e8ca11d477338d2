"""Webhooks: endpoints, and how one event is signed, sent and retried safely.

`addresses` (allowed targets), `schedule`, `signing` and `payload` are pure; `sender` makes one HTTP attempt over
the network of `pinned_transport`; `endpoints` is the registry. `gateway.courier` delivers.
"""
