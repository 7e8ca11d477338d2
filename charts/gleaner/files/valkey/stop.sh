#!/bin/sh
# Before a server ends: if it is the master, hand over to a replica that has every write. The master lets writes wait
# meanwhile (COORDINATED), so none is lost. Without a replica that could take over, end after $HANDOVER_S seconds anyway:
# the volume has everything, and the Sentinels decide who goes on.
set -eu
. "${SCRIPTS:-/etc/valkey}/sentinels.sh"
end=$(($(date +%s) + ${HANDOVER_S:-30}))
is_master() { [ "$(find_master)" = "$NODE" ] && [ "$(date +%s)" -lt "$end" ]; }

while is_master && has_replicas; do
  for sentinel in $SENTINELS; do
    if [ "$(ask "$sentinel" SENTINEL FAILOVER gleaner COORDINATED)" = OK ]; then break; fi
  done
  for _ in 1 2 3 4 5 6 7 8 9 10; do # a second attempt would disturb the first
    if is_master; then sleep 0.5; fi
  done
done
