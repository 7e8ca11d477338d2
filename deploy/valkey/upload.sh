#!/bin/sh
# Upload a checked snapshot as $DESTINATION/ledger-<UTC time>-<keys>.rdb; an upload never replaces an object. Then delete
# what is past its time: the newest $KEEP_LAST stay, and of the older ones the newest of a day, for $KEEP_DAYS days.
#
# Refused: a snapshot of a server that started since the last backup and has less than $MIN_KEYS_PERCENT of its keys. The
# ledger was then probably lost, and the older snapshots must stay. $DESTINATION/REFUSED says so and refuses all later
# ones, however many keys a new ledger gets, until a person accepts one: 0 accepts all and deletes it.
set -eu
listing=$(rclone lsf --files-only "$DESTINATION") || [ $? -eq 3 ] # 3: the folder does not exist yet
names=$(echo "$listing" | sed -n '/^ledger-[0-9]\{14\}-[0-9][0-9]*[.]rdb$/p' | sort)
marker=$(echo "$listing" | sed -n '/^REFUSED$/p')
keys=$(cat "$BACKUP/keys")
last=$(echo "$names" | tail -n 1 | sed 's/^ledger-//; s/[.]rdb$//')
refuse() {
  echo "refused: $1. If the ledger was lost, restore it. After that, or if the keys are right, set" \
    "backup.minKeysPercent to 0 for one backup." >&2
  exit 1
}
if [ "$MIN_KEYS_PERCENT" -gt 0 ] && [ -n "$marker" ]; then
  refuse "$(rclone cat "$DESTINATION/REFUSED")"
elif [ "$MIN_KEYS_PERCENT" -gt 0 ] && [ -n "$last" ]; then
  last_keys=${last#*-}
  restarted=$([ "$(cat "$BACKUP/started")" -ge "${last%-*}" ] && echo yes || echo no)
  if [ "$keys" -eq 0 ] && [ "$last_keys" -gt 0 ]; then restarted=yes; fi
  if [ "$restarted" = yes ] && [ $((keys * 100)) -lt $((last_keys * MIN_KEYS_PERCENT)) ]; then
    reason="$keys keys after a restart of the server, $last_keys in the last backup ($(date -u))"
    echo "$reason" | rclone rcat "$DESTINATION/REFUSED"
    refuse "$reason"
  fi
fi
name=ledger-$(date -u +%Y%m%d%H%M%S)-$keys.rdb
rclone copyto "$BACKUP/ledger.rdb" "$DESTINATION/$name"
echo "uploaded $name"
if [ -n "$marker" ]; then rclone deletefile "$DESTINATION/REFUSED"; fi
printf '%s\n' "$names" "$name" | sed '/^$/d' | sort -r | awk -v last="$KEEP_LAST" -v days="$KEEP_DAYS" '
  NR <= last { next }
  { day = substr($0, 8, 8) }
  day != latest && kept < days { latest = day; kept++; next }
  { print }' |
  while read -r old; do
    rclone deletefile "$DESTINATION/$old"
    echo "deleted $old"
  done
