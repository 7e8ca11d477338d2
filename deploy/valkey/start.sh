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
@USERS@
USERS
unset password
exec valkey-server /etc/valkey/valkey.conf
