"""Webhooks: who is told when a job ends, and how the telling is signed, sent, repeated and kept safe.

`addresses` (what may be called), `schedule`, `signing` and `payload` are pure; `delivery` is one HTTP try, over the
network that `pinned` makes; `endpoints` is the registry; `deliverer` is the courier's task, `dispatch` its timer.
"""
