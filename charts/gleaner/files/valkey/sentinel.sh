#!/bin/sh
# Start a Sentinel. The master is the one that its volume names, or that another Sentinel knows; at a release's first start
# it is $FIRST_MASTER. Valkey writes what it learns into sentinel.conf on the volume, so that even after all pods were gone
# no older server becomes the master.
#
# Its users are those of the servers, with the same passwords. User `sentinel` is for the other Sentinels and for the servers' own
# scripts; the clients may ask for the master. Secrets are read at the start only; when they change, the Sentinel
# ends and is started again, after the servers have them, and one Sentinel after the other.
set -eu
umask 077
RUN=${RUN_FOLDER:-/run/valkey}
TLS=${TLS_FOLDER:-/etc/valkey-tls}
DATA=${DATA_FOLDER:-/data}
SCRIPTS=${SCRIPTS:-/etc/valkey}
. "$SCRIPTS/sentinels.sh"
password=$(cat "$PASSWORDS/sentinel-password")

write_users() {
  echo 'user default off'
  for user in gateway worker courier flower keda backup sentinel; do
    rules='+sentinel|get-master-addr-by-name +sentinel|masters +sentinel|master +sentinel|sentinels +sentinel|replicas'
    rules="$rules +sentinel|slaves +ping +subscribe +psubscribe +unsubscribe +punsubscribe &*"
    if [ "$user" = sentinel ]; then
      rules="$rules +publish +info +role +sentinel|is-primary-down-by-addr +sentinel|is-master-down-by-addr"
      rules="$rules +sentinel|failover"
    fi
    hashes=
    for file in "$PASSWORDS/$user-password" "$PASSWORDS/$user-password-previous"; do
      if [ -s "$file" ]; then hashes="$hashes #$(printf %s "$(cat "$file")" | sha256sum | cut -d ' ' -f 1)"; fi
    done
    if [ -n "$hashes" ]; then
      echo "user $user on$hashes -@all +auth +hello +client|setname +client|setinfo +client|id $rules"
    fi
  done
}

known_master() {
  if [ -s "$DATA/sentinel.conf" ]; then
    sed -n 's/^sentinel monitor gleaner \([^ ]*\) .*/\1/p' "$DATA/sentinel.conf"
    return
  fi
  for sentinel in $SENTINELS; do
    if [ "$sentinel" != "$NODE" ]; then ask "$sentinel" SENTINEL GET-MASTER-ADDR-BY-NAME gleaner | awk 'NR == 1 && NF == 1'; fi
  done | head -n 1
}

write_config() { # master
  cat "$SCRIPTS/sentinel.conf"
  cat << CONFIG
dir $DATA
aclfile $RUN/users.acl
sentinel announce-ip $NODE
sentinel sentinel-user sentinel
sentinel sentinel-pass "$password"
sentinel monitor gleaner $1 6379 2
sentinel auth-user gleaner sentinel
sentinel auth-pass gleaner "$password"
sentinel down-after-milliseconds gleaner $DOWN_AFTER_MS
sentinel failover-timeout gleaner 30000
sentinel parallel-syncs gleaner 1
CONFIG
  if [ -s "$DATA/sentinel.conf" ]; then
    grep -E '^sentinel (myid|current-epoch|((config|leader)-epoch|known-(replica|sentinel)) gleaner) ' "$DATA/sentinel.conf" || true
  fi
}

fingerprint() { cat "$PASSWORDS"/* "$TLS"/* 2> /dev/null | sha256sum; }

end_on_changes() { # fingerprint at the start
  while sleep "${RELOAD_S:-10}" && kill -0 $$ 2> /dev/null; do
    if [ "$(fingerprint)" != "$1" ]; then
      echo 'secrets have changed; this Sentinel starts again'
      sleep "${SPREAD_S:-$((120 + 20 * ${POD_NAME##*-}))}"
      kill $$
      return
    fi
  done
}

master=$(known_master)
write_users > "$RUN/users.acl"
write_config "${master:-$FIRST_MASTER}" > "$DATA/sentinel.conf.new"
mv "$DATA/sentinel.conf.new" "$DATA/sentinel.conf"
end_on_changes "$(fingerprint)" &
exec valkey-server "$DATA/sentinel.conf" --sentinel
