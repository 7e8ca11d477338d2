#!/bin/sh
# Fetch a snapshot from $DESTINATION to $RESTORE/ledger.rdb: the one named in $SNAPSHOT, or the latest. All were checked
# before they were uploaded.
set -eu
name=$SNAPSHOT
if [ "$name" = latest ]; then
  listing=$(rclone lsf --files-only "$DESTINATION")
  name=$(echo "$listing" | sed -n '/^ledger-[0-9]\{14\}-[0-9][0-9]*[.]rdb$/p' | sort | tail -n 1)
  if [ -z "$name" ]; then
    echo "no snapshot in $DESTINATION" >&2
    exit 1
  fi
fi
rclone copyto "$DESTINATION/$name" "$RESTORE/ledger.rdb"
echo "fetched $name"
