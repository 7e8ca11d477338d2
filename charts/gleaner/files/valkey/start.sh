#!/bin/sh
# Start Valkey with one user per process and no other. `make chart-sync` puts the users of
# docs/reference/security-redis.md into this script and writes the result into the chart, which compose.yaml mounts, too.
#
# A user's password is in the variable <NAME>_PASSWORD or in a file of the folder $PASSWORDS: `<name>` or `<name>-password`,
# and `<name>-password-previous`, which is accepted, too, while passwords are changed. A user without one does not exist.
# The users' file contains hashes; no command line and no environment of the server contains the passwords.
#
# With $SENTINELS this is one of several servers, $NODE by name: it starts as the Sentinels say, and never before they say it,
# so that a master that was replaced comes back as a replica.
set -eu
umask 077
PASSWORDS=${PASSWORDS:-/none}
RUN=${RUN_FOLDER:-/run/valkey}
TLS=${TLS_FOLDER:-/etc/valkey-tls}
DATA=${DATA_FOLDER:-/data}
SCRIPTS=${SCRIPTS:-/etc/valkey}

hash() { printf %s "$1" | sha256sum | cut -d ' ' -f 1; }

hashes() { # variable file...: the hashes of a user's passwords
  eval "value=\${$1:-}"
  shift
  if [ -n "$value" ]; then printf ' #%s' "$(hash "$value")" && return; fi
  for file; do
    if [ -s "$PASSWORDS/$file" ]; then printf ' #%s' "$(hash "$(cat "$PASSWORDS/$file")")"; fi
  done
}

write_users() {
  while read -r _ name _ _ rules; do
    if [ "$name" = default ]; then
      rules='~* &* +@all' found=$(hashes VALKEY_PASSWORD password)
    else
      variable=$(echo "$name" | tr '[:lower:]' '[:upper:]')_PASSWORD
      found=$(hashes "$variable" "$name" "$name-password" "$name-password-previous")
    fi
    if [ -n "$found" ]; then
      echo "user $name on$found $rules"
    elif [ "$name" = default ]; then
      echo 'user default off'
    fi
  done > "$RUN/users.new" <<'USERS'
user default off
user gateway on >gateway-password -@all +@connection +@hash +@list +@set +@sortedset +@string +del +unlink +exists +expire +pexpire +pexpireat +persist +pttl +rename +eval +evalsha +script|load +script|exists +subscribe +unsubscribe +publish -@dangerous -@blocking +@connection -@admin +info +time ~{gleaner}:* &{gleaner}:ch:* (-@all +lpush +llen ~gleaner:q:gleaner.*)
user courier on >courier-password -@all +@connection +@hash +@list +@set +@sortedset +@string +del +unlink +exists +expire +pexpire +pexpireat +persist +pttl +eval +evalsha +script|load +script|exists +multi +exec +psubscribe +punsubscribe +publish -@dangerous -@admin +info +time ~{gleaner}:* ~gleaner:q:gleaner.* ~gleaner:q:_kombu.binding* ~gleaner:q:*.pidbox &{gleaner}:ch:* &gleaner:q:/0.celery.pidbox &gleaner:q:/0.celeryev/*
user worker on >worker-password -@all +@connection +@hash +@list +@set +@sortedset +@string +del +unlink +exists +pexpire +pexpireat +eval +evalsha +script|load +script|exists +multi +exec +psubscribe +punsubscribe +publish -@dangerous -@admin +time ~{gleaner}: ~{gleaner}:job:* ~{gleaner}:sh:* ~{gleaner}:in:* ~{gleaner}:out:* ~{gleaner}:part:* ~{gleaner}:ids:* ~{gleaner}:ans:* ~{gleaner}:asked:* ~{gleaner}:open:* ~{gleaner}:opened:* ~{gleaner}:pub:* ~{gleaner}:flight:* ~{gleaner}:wait:* ~{gleaner}:hungry:* ~{gleaner}:q:* ~{gleaner}:queued:* ~{gleaner}:run:* ~{gleaner}:workers:* ~{gleaner}:model:* ~{gleaner}:tenant:* ~{gleaner}:tenants ~{gleaner}:kept:* ~{gleaner}:deadlines ~{gleaner}:purge ~{gleaner}:texts ~{gleaner}:sys ~{gleaner}:ep:* ~{gleaner}:eps ~{gleaner}:eps:* ~{gleaner}:due:* ~{gleaner}:dlv:* ~{gleaner}:dlvs:* ~{gleaner}:event:* ~gleaner:q:gleaner.*.interactive ~gleaner:q:gleaner.*.standard ~gleaner:q:_kombu.binding* ~gleaner:q:*.pidbox &{gleaner}:ch:* &gleaner:q:/0.celery.pidbox &gleaner:q:/0.celeryev/*
user flower on >flower-password -@all +@connection -@dangerous -@admin +llen +brpop +del +sadd +srem +smembers +get +set +zadd +zrange +zrem +zrangebyscore +hget +hset +hdel +time +eval +evalsha +script|load +script|exists +multi +exec +publish +psubscribe +punsubscribe %R~gleaner:q:gleaner.* ~gleaner:q:celeryev.* ~gleaner:q:_kombu.binding* ~gleaner:q:*.pidbox &gleaner:q:/0.celery.pidbox &gleaner:q:/0.celeryev/*
user keda on >keda-password -@all +@connection -@dangerous -@admin +eval +evalsha +type +zcard +llen ~{gleaner}:open:* ~gleaner:q:gleaner.webhooks
user backup on >backup-password -@all +@connection -@dangerous -@admin +info +replconf +psync +sync
user replication on >replication-password -@all +ping +replconf +psync +sync
user sentinel on >sentinel-password -@all +multi +exec +ping +info +role +subscribe +publish +replicaof +slaveof +failover +config|rewrite +client|setname +client|kill +client|pause +client|unpause +script|kill &__sentinel__:hello
USERS
  if [ -n "${reloader:-}" ]; then
    echo "user reloader on #$(hash "$reloader") -@all +auth +acl|load +config|set +role" >> "$RUN/users.new"
  fi
  mv "$RUN/users.new" "$RUN/users.acl"
}

fingerprint() { cat "$PASSWORDS"/* "$TLS"/* 2> /dev/null | sha256sum; }

tell_server() { REDISCLI_AUTH=$reloader valkey-cli -s "$RUN/valkey.sock" --user reloader "$@"; }

reload() {
  write_users
  tell_server ACL LOAD &&
    { [ ! -e "$TLS/tls.crt" ] || tell_server CONFIG SET tls-cert-file "$TLS/tls.crt" tls-key-file "$TLS/tls.key" \
      tls-ca-cert-file "$TLS/ca.crt"; } &&
    { [ -z "${SENTINELS:-}" ] || tell_server -x CONFIG SET masterauth < "$PASSWORDS/replication-password"; }
}

# Secrets that change reach the running server; connections stay. What fails is tried again.
follow_changes() { # fingerprint of what the server has
  while sleep "${RELOAD_S:-10}" && kill -0 $$ 2> /dev/null; do
    if [ -e "$DATA/unsynced" ] && tell_server ROLE | grep -qx connected; then
      tell_server CONFIG SET replica-priority 100 > /dev/null && rm "$DATA/unsynced"
    fi
    now=$(fingerprint)
    if [ "$now" = "$1" ]; then continue; fi
    if replies=$(reload) && ! echo "$replies" | grep -qvx OK; then # an error reply is no failure of valkey-cli
      echo "passwords and certificates were read again"
      set -- "$now"
    fi
  done
}

has_data() { [ -e "$DATA/appendonlydir/appendonly.aof.manifest" ] && [ ! -e "$DATA/unsynced" ]; }

# A server without data must not become the master of replicas that have them: the Sentinels will choose one of those.
await_master() {
  until master=$(find_master) && { [ "$master" != "$NODE" ] || has_data || ! has_replicas; }; do
    [ -n "${waiting:-}" ] || echo "waiting until the Sentinels agree on a master that can start"
    waiting=yes
    sleep 0.5
  done
}

write_replication() {
  echo "replica-announce-ip $NODE"
  echo "masteruser replication"
  echo "masterauth \"$(cat "$PASSWORDS/replication-password")\""
  if [ "$master" != "$NODE" ]; then echo "replicaof $master 6379"; fi
  if [ -e "$DATA/unsynced" ]; then echo "replica-priority 0"; fi # the Sentinels never choose it
}

if [ -n "${SENTINELS:-}" ]; then
  . "$SCRIPTS/sentinels.sh"
  trap 'exit 143' TERM # the first process of a container ignores it otherwise
  await_master
  trap - TERM
  # Until its first copy is complete, which a restart does not show: an append-only file is there at once, and empty.
  if [ "$master" != "$NODE" ] && ! has_data; then touch "$DATA/unsynced"; fi
  write_replication > "$RUN/replication.conf"
fi
if [ -d "$PASSWORDS" ]; then
  reloader=$(head -c 32 /dev/urandom | sha256sum | cut -d ' ' -f 1)
  write_users
  follow_changes "$(fingerprint)" &
else
  write_users
fi
for name in VALKEY GATEWAY WORKER COURIER FLOWER KEDA BACKUP; do unset "${name}_PASSWORD"; done
exec valkey-server /etc/valkey/valkey.conf --unixsocket "$RUN/valkey.sock" --unixsocketperm 700
