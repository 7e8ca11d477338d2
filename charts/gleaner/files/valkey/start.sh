#!/bin/sh
# Start Valkey with one user per process and no other. `make chart-sync` puts the users of
# docs/reference/security-redis.md into this script and writes the result into the chart, which compose.yaml mounts, too.
#
# A user's password is in the variable <NAME>_PASSWORD or in the file $PASSWORDS/<name>; a user without one does not
# exist. The users' file contains hashes; no command line and no environment of the server contains the passwords.
set -eu
umask 077
while read -r _ name _ _ rules; do
  variable=$(echo "$name" | tr '[:lower:]' '[:upper:]')_PASSWORD
  if [ "$name" = default ]; then variable=VALKEY_PASSWORD rules='~* &* +@all'; fi
  eval "password=\${$variable:-}"
  unset "$variable"
  if [ -z "$password" ] && [ -r "${PASSWORDS:-/none}/$name" ]; then password=$(cat "$PASSWORDS/$name"); fi
  if [ -n "$password" ]; then
    echo "user $name on #$(printf %s "$password" | sha256sum | cut -d ' ' -f 1) $rules"
  elif [ "$name" = default ]; then
    echo 'user default off'
  fi
done > /run/valkey/users.acl <<'USERS'
user default off
user gateway on >gateway-password -@all +@connection +@hash +@list +@set +@sortedset +@string +del +unlink +exists +expire +pexpire +pexpireat +persist +pttl +rename +eval +evalsha +script|load +script|exists +subscribe +unsubscribe +publish -@dangerous -@blocking +@connection -@admin +info +time ~{gleaner}:* &{gleaner}:ch:* (-@all +lpush +llen ~gleaner:q:gleaner.*)
user courier on >courier-password -@all +@connection +@hash +@list +@set +@sortedset +@string +del +unlink +exists +expire +pexpire +pexpireat +persist +pttl +eval +evalsha +script|load +script|exists +multi +exec +psubscribe +punsubscribe +publish -@dangerous -@admin +info +time ~{gleaner}:* ~gleaner:q:gleaner.* ~gleaner:q:_kombu.binding* ~gleaner:q:*.pidbox &{gleaner}:ch:* &gleaner:q:/0.celery.pidbox &gleaner:q:/0.celeryev/*
user worker on >worker-password -@all +@connection +@hash +@list +@set +@sortedset +@string +del +unlink +exists +pexpire +pexpireat +eval +evalsha +script|load +script|exists +multi +exec +psubscribe +punsubscribe +publish -@dangerous -@admin +time ~{gleaner}: ~{gleaner}:job:* ~{gleaner}:sh:* ~{gleaner}:in:* ~{gleaner}:out:* ~{gleaner}:part:* ~{gleaner}:ids:* ~{gleaner}:ans:* ~{gleaner}:asked:* ~{gleaner}:open:* ~{gleaner}:opened:* ~{gleaner}:pub:* ~{gleaner}:flight:* ~{gleaner}:wait:* ~{gleaner}:hungry:* ~{gleaner}:q:* ~{gleaner}:queued:* ~{gleaner}:run:* ~{gleaner}:workers:* ~{gleaner}:model:* ~{gleaner}:tenant:* ~{gleaner}:tenants ~{gleaner}:kept:* ~{gleaner}:deadlines ~{gleaner}:purge ~{gleaner}:texts ~{gleaner}:sys ~{gleaner}:ep:* ~{gleaner}:eps ~{gleaner}:eps:* ~{gleaner}:due:* ~{gleaner}:dlv:* ~{gleaner}:dlvs:* ~{gleaner}:event:* ~gleaner:q:gleaner.*.interactive ~gleaner:q:gleaner.*.standard ~gleaner:q:_kombu.binding* ~gleaner:q:*.pidbox &{gleaner}:ch:* &gleaner:q:/0.celery.pidbox &gleaner:q:/0.celeryev/*
user flower on >flower-password -@all +@connection -@dangerous -@admin +llen +brpop +del +sadd +srem +smembers +get +set +zadd +zrange +zrem +zrangebyscore +hget +hset +hdel +time +eval +evalsha +script|load +script|exists +multi +exec +publish +psubscribe +punsubscribe %R~gleaner:q:gleaner.* ~gleaner:q:celeryev.* ~gleaner:q:_kombu.binding* ~gleaner:q:*.pidbox &gleaner:q:/0.celery.pidbox &gleaner:q:/0.celeryev/*
user keda on >keda-password -@all +@connection -@dangerous -@admin +eval +evalsha +type +zcard +llen ~{gleaner}:open:* ~gleaner:q:gleaner.webhooks
user backup on >backup-password -@all +@connection -@dangerous -@admin +info +replconf +psync +sync
USERS
unset password
exec valkey-server /etc/valkey/valkey.conf
