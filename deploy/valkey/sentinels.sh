# Functions that ask the Sentinels, for the scripts that read this file. $SENTINELS: their names. The login is the user
# `sentinel` with the password in the folder $PASSWORDS, or $SENTINEL_USER with $REDISCLI_AUTH. $TLS_OPTIONS: more
# arguments of valkey-cli.

ask() { # name of a Sentinel, command...: its reply, a line for each element; nothing if it does not answer
  host=$1
  shift
  REDISCLI_AUTH=${REDISCLI_AUTH:-$(cat "$PASSWORDS/sentinel-password")} timeout 2 \
    valkey-cli -h "$host" -p 26379 --user "${SENTINEL_USER:-sentinel}" ${TLS_OPTIONS:-} "$@" 2> /dev/null || true
}

# The master's name, if two of the three Sentinels agree on it: one alone may have missed a failover.
find_master() {
  for sentinel in $SENTINELS; do
    ask "$sentinel" SENTINEL GET-MASTER-ADDR-BY-NAME gleaner | head -n 1
  done | sort | uniq -c | awk 'NF == 2 && $1 >= 2 { print $2; known = 1 } END { exit !known }'
}

has_replicas() { # as far as any Sentinel knows
  for sentinel in $SENTINELS; do
    if ask "$sentinel" SENTINEL REPLICAS gleaner | grep -qx name; then return 0; fi
  done
  return 1
}
