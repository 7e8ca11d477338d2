#!/bin/sh
# Take a snapshot of the ledger and check it: $BACKUP/ledger.rdb, its number of keys in $BACKUP/keys, and the server's
# start (UTC, 14 digits) in $BACKUP/started. Valkey streams the state of one moment; nothing is written on its side.
# Arguments: how valkey-cli reaches the server.
set -eu
valkey-cli "$@" --rdb "$BACKUP/ledger.rdb"
if ! valkey-check-rdb "$BACKUP/ledger.rdb" > "$BACKUP/check"; then
  cat "$BACKUP/check" >&2
  echo "refused: the snapshot is damaged" >&2
  exit 1
fi
keys=$(sed -n 's/^.* \([0-9][0-9]*\) keys read.*$/\1/p' "$BACKUP/check")
info=$(valkey-cli "$@" info)
live=$(echo "$info" | sed -n 's/^db[0-9]*:keys=\([0-9]*\),.*/\1/p' | awk '{sum += $1} END {print sum + 0}')
uptime=$(echo "$info" | sed -n 's/^uptime_in_seconds:\([0-9]*\).*/\1/p')
if [ -z "$uptime" ]; then # valkey-cli succeeds although the server answers an error
  echo "refused: the server does not say what it has: $info" >&2
  exit 1
fi
if [ $((keys * 2)) -lt "$live" ]; then
  echo "refused: the snapshot has $keys keys, the server $live" >&2
  exit 1
fi
echo "$keys" > "$BACKUP/keys"
date -u -d "@$(($(date +%s) - uptime))" +%Y%m%d%H%M%S > "$BACKUP/started"
echo "a snapshot of $keys keys"
