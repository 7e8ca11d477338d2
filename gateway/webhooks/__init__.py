"""Webhooks: who is told when a job ends, and how the telling is signed, sent, repeated and kept safe.

`addresses` (what may be called) and `schedule`, `signing`, `payload` are pure; `delivery` is the HTTP; `endpoints`
is the registry; `deliverer` is the courier's task and `dispatch` its timer.
"""
