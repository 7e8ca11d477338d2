#!/usr/bin/env bash
# Grow the volume of the chart's Valkey: a StatefulSet's size cannot be changed, but its claim's can.
#
#   grow-volume.sh NAMESPACE RELEASE STATEFULSET SIZE [options of helm upgrade, such as -f values.yaml]
#
# The pod runs on: the claim grows under it (its StorageClass must allow it), the StatefulSet is deleted without its pod and
# created again with the new size. Put the size into your values, too. SERVERS=2 if there is a replica. With DRY_RUN=1 commands are printed instead of run.
set -euo pipefail

[ $# -ge 4 ] || { sed -n '4p' "$0" >&2 && exit 2; }
namespace=$1 release=$2 statefulset=$3 size=$4
shift 4
[[ $size =~ ^[0-9]+[GT]i$ ]] || { printf 'grow-volume.sh: %q is no size such as 64Gi\n' "$size" >&2 && exit 2; }

run() {
  if [ "${DRY_RUN:-}" = 1 ]; then printf '%s\n' "$*"; else "$@"; fi
}

upgrade=(helm upgrade "$release" "$(dirname "$0")/../../charts/gleaner" --namespace "$namespace" "$@" --set "valkey.storage.size=$size")
run "${upgrade[@]}" --dry-run=server --hide-secret # before anything is deleted: could it be created again?
for ((server = 0; server < ${SERVERS:-1}; server++)); do
  claim=data-$statefulset-$server
  run kubectl -n "$namespace" patch pvc "$claim" --patch "{\"spec\":{\"resources\":{\"requests\":{\"storage\":\"$size\"}}}}"
  run kubectl -n "$namespace" wait "pvc/$claim" "--for=jsonpath={.status.capacity.storage}=$size" --timeout=15m
done
run kubectl -n "$namespace" delete statefulset "$statefulset" --cascade=orphan
run "${upgrade[@]}" --wait --timeout 15m
