#!/bin/sh
# Start a process with its passwords: files that Compose mounts become variables of this process only, so that neither
# `docker inspect` nor a command line shows them. STORE_USER is its Redis user (docs/reference/security-redis.md).
set -eu
password=$(cat /run/secrets/store)
address=redis://$STORE_USER:$password@valkey:6379
export GLEANER_BROKER_URL="$address/0"
if [ "$STORE_USER" != flower ]; then export GLEANER_REDIS_URL="$address/1"; fi
if [ -r /run/secrets/flower ]; then GLEANER_FLOWER_PASSWORD=$(cat /run/secrets/flower) && export GLEANER_FLOWER_PASSWORD; fi
unset password address
exec python "$@"
