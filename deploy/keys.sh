#!/usr/bin/env bash
# Edit the API keys of a release: `gleaner keys` runs in a pod of the gateway, and the Secret gets the new keys file.
#
#   keys.sh NAMESPACE GATEWAY COMMAND…   such as: keys.sh gleaner gleaner-gateway create --tenant acme --role submitter
#
# GATEWAY is the gateway's Deployment. Running gateways read the change within about a minute. A new key is shown once; only
# its hash is stored. If somebody else changes the Secret meanwhile, nothing is written.
set -euo pipefail

[ $# -ge 3 ] || { sed -n '4p' "$0" >&2 && exit 2; }
kubectl=(kubectl --namespace "$1")
gateway=deployment/$2
shift 2

place=$("${kubectl[@]}" get "$gateway" --output 'jsonpath={.spec.template.spec.volumes[?(@.name=="keys")].secret.secretName} {.spec.template.spec.containers[0].env[?(@.name=="GLEANER_KEYS_FILE")].value}')
secret=${place%% *} key=${place##*/}
owner='{{with .metadata.ownerReferences}}{{(index . 0).kind}}{{else}}nobody{{end}}'
present=$("${kubectl[@]}" get secret "$secret" --output "go-template={{.metadata.resourceVersion}} $owner {{index .data \"$key\"}}")
read -r version owner content <<< "$present"
if [ "$owner" = ExternalSecret ] && [ "$1" != list ]; then
  echo "keys.sh: External Secrets would undo a change of the Secret $secret: edit the keys file in its store instead" >&2
  exit 1
fi

# The pod's mounted file may be a minute old, so it gets the Secret's. Its last line of output is the new file.
# shellcheck disable=SC2016 # expanded in the pod
output=$(base64 -d <<< "$content" | "${kubectl[@]}" exec --stdin "$gateway" -- sh -euc '
  folder=$(mktemp -d)
  trap "rm -r $folder" EXIT
  cat > "$folder/keys.json"
  gleaner keys "$@" --keys-file "$folder/keys.json"
  base64 -w 0 "$folder/keys.json"' sh "$@")
changed=${output##*$'\n'}
if [ "$changed" != "$content" ]; then
  # With a resourceVersion the server refuses the patch if the Secret has changed since it was read.
  "${kubectl[@]}" patch secret "$secret" --patch-file /dev/stdin >&2 << END
{"metadata": {"resourceVersion": "$version"}, "data": {"$key": "$changed"}}
END
fi
printf '%s\n' "${output%$'\n'*}"
