#!/usr/bin/env bash
# The steps of a release, one per call, the same for Jenkins, GitHub Actions and a person:
#
#   release.sh build    REGISTRY VERSION BASE   both images, and the worker's CUDA variant, on the base's digest
#   release.sh scan     REGISTRY VERSION        vulnerabilities of HIGH and above fail; SBOMs as sbom-<image>.json
#   release.sh push     REGISTRY VERSION        digests into digests.env
#   release.sh package  VERSION                 the chart and both wheels into dist/, if all state this version
#   release.sh publish  REGISTRY VERSION        the chart into REGISTRY/charts, its digest into digests.env
#   release.sh sign                             everything in digests.env, images with their SBOMs, and the wheels in dist/
#   release.sh deploy   ENVIRONMENT PLACE REGISTRY [MODEL_REVISION]
#   release.sh smoke    ENVIRONMENT             one job; rolls back if it fails
#   release.sh rollback ENVIRONMENT
#
# ENVIRONMENT is dev, staging or prod, PLACE aws, gcp, azure, onprem or none: both name an overlay of the chart. Signatures
# are cosign's: by the key COSIGN_KEY, or without one by the identity of the pipeline (keyless).
#
# With DRY_RUN=1 commands are printed instead of run.
set -euo pipefail
cd "$(dirname "$0")/.."

run() {
  if [ "${DRY_RUN:-}" = 1 ]; then printf '%s\n' "$*"; else "$@"; fi
}

# The form of each argument: anybody who may start a pipeline chooses them, and they become names and options.
name='[A-Za-z0-9][A-Za-z0-9._-]*'
registry="$name(:[0-9]+)?(/$name)*"
checksum='sha256:([0-9a-f]{64}|dry-run)'
expect() { # pattern what value
  [[ $3 =~ ^($1)$ ]] || { printf 'release.sh: %q is no %s\n' "$3" "$2" >&2 && exit 2; }
}

images=(gateway worker worker-cuda)
tag() { # registry version image: the CUDA variant is a tag of the worker's repository
  case $3 in
    worker-cuda) echo "$1/gleaner-worker:$2-cuda" ;;
    *) echo "$1/gleaner-$3:$2" ;;
  esac
}

pin_base() { # base: with its digest, so that all images have the same one and say which
  local repository=$1
  if [[ $1 == *@sha256:* ]]; then echo "$1" && return; fi
  buildah pull --quiet "$1" > /dev/null
  [[ ${1##*/} != *:* ]] || repository=${1%:*}
  echo "$repository@$(buildah inspect --type image --format '{{.FromImageDigest}}' "$1")"
}

build() { # registry version base
  local base common
  base=$(pin_base "$3")
  # Unchanged layers are taken from the registry: what is built twice is not pulled twice by the nodes.
  common=(--format docker --layers --cache-from "$1/gleaner-cache" --cache-to "$1/gleaner-cache")
  common+=(--build-arg "BASE=$base" --label "org.opencontainers.image.base.name=$base" --build-arg "REVISION=$2")
  login "$1"
  run buildah bud "${common[@]}" -f Dockerfile.gateway -t "$(tag "$1" "$2" gateway)" .
  run buildah bud "${common[@]}" -f Dockerfile.worker --target cpu -t "$(tag "$1" "$2" worker)" .
  run buildah bud "${common[@]}" -f Dockerfile.worker --target cuda -t "$(tag "$1" "$2" worker-cuda)" .
}

login() { # registry: for the programs that push
  run buildah login --username "$REGISTRY_USER" --password-stdin "${1%%/*}" <<< "$REGISTRY_PASSWORD"
}

scan() { # registry version
  local image archive
  for image in "${images[@]}"; do
    archive=image-$image.tar
    run buildah push "$(tag "$1" "$2" "$image")" "docker-archive:$archive"
    run trivy image --input "$archive" --severity HIGH,CRITICAL --ignore-unfixed --exit-code 1
    run trivy image --input "$archive" --format cyclonedx --output "sbom-$image.json"
  done
}

push() { # registry version
  local image
  login "$1"
  : > digests.env
  for image in "${images[@]}"; do
    run buildah push --digestfile "digest-$image" "$(tag "$1" "$2" "$image")"
    if [ "${DRY_RUN:-}" = 1 ]; then echo "sha256:dry-run" > "digest-$image"; fi
    echo "$(tr a-z- A-Z_ <<< "$image")=$1/gleaner-${image%-cuda}@$(cat "digest-$image")" >> digests.env
    rm "digest-$image"
  done
}

package() { # version
  python3 scripts/versions.py "$1"
  run helm package charts/gleaner --destination dist
  run python3 -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist . ./service
}

publish() { # registry version
  local said digest=sha256:dry-run
  run helm registry login --username "$REGISTRY_USER" --password-stdin "${1%%/*}" <<< "$REGISTRY_PASSWORD"
  said=$(run helm push "dist/gleaner-$2.tgz" "oci://$1/charts" 2>&1) || { echo "$said" >&2 && exit 1; }
  echo "$said"
  [ "${DRY_RUN:-}" = 1 ] || digest=$(sed -n 's/^Digest: *//p' <<< "$said")
  expect "$checksum" digest "$digest"
  echo "CHART=$1/charts/gleaner@$digest" >> digests.env
}

sign() {
  local line artifact sbom wheel
  local key=(${COSIGN_KEY:+--key "$COSIGN_KEY"})
  while read -r line; do
    artifact=${line#*=}
    sbom=sbom-$(tr A-Z_ a-z- <<< "${line%%=*}").json
    run cosign sign --yes "${key[@]}" "$artifact"
    [[ $line == CHART=* ]] || run cosign attest --yes "${key[@]}" --type cyclonedx --predicate "$sbom" "$artifact"
  done < digests.env
  for wheel in dist/*.whl; do
    [ ! -e "$wheel" ] || run cosign sign-blob --yes "${key[@]}" --bundle "$wheel.sigstore.json" "$wheel"
  done
}

digest() { # image: one that is missing is refused, or the chart would deploy whatever has its tag
  local value
  value=$(sed -n "s/^$1=.*@//p" digests.env)
  expect "$checksum" "digest of $1 (digests.env)" "$value"
  echo "$value"
}

deploy() { # environment place registry [model revision]
  local gateway worker cuda options=(--values "charts/gleaner/values-$1.yaml")
  gateway=$(digest GATEWAY)
  worker=$(digest WORKER)
  [ "$2" = none ] || options+=(--values "charts/gleaner/values-$2.yaml")
  options+=(--set "images.registry=$3" --set "images.gateway.digest=$gateway")
  options+=(--set "images.worker.digest=$worker")
  if [ "$1" = prod ]; then
    cuda=$(digest WORKER_CUDA)
    options+=(--set "models.gliner-medium-v2\.1.imageDigest=$cuda")
    # Without one the overlay's revision is used.
    [ -z "${4:-}" ] || options+=(--set "models.gliner-medium-v2\.1.revision=$4")
  fi
  # --rollback-on-failure is Helm 4's name of --atomic: a release that does not become ready is rolled back. Without
  # --force-conflicts that fails where an autoscaler has changed the replicas since.
  run helm upgrade --install gleaner charts/gleaner --namespace gleaner --create-namespace \
    "${options[@]}" --wait --timeout 30m --rollback-on-failure --force-conflicts
}

smoke() { # environment
  ensure_test_key
  # The test's pod has a deadline, which knows how long a start from zero takes; this one only has to be longer.
  run helm test gleaner --namespace gleaner --logs --timeout 60m || { rollback "$1" && exit 1; }
}

read_secret() { # name key
  kubectl --namespace gleaner get secret "$1" --output "go-template={{index .data \"$2\" | base64decode}}"
}

write_secret() { # name key: its value is on stdin
  kubectl --namespace gleaner create secret generic "$1" --from-file "$2=/dev/stdin" --dry-run=client -o json \
    | kubectl --namespace gleaner apply --server-side --force-conflicts --filename -
}

has_test_key() { # whether the keys file knows the test's key
  local hash keys
  [ "${DRY_RUN:-}" != 1 ] || return 0
  hash=$(read_secret gleaner-test-key api-key | sha256sum) || return 1
  keys=$(read_secret gleaner-keys keys.json) || return 1
  [[ $keys == *"${hash%% *}"* ]]
}

# The key of `helm test`. Chart and External Secrets make it with the keys file; a keys file of yours, or a later one, has none.
ensure_test_key() {
  local created
  if has_test_key; then return; fi
  created=$(deploy/keys.sh gleaner gleaner-gateway create --tenant smoke --name "helm test" --json)
  # Only a pod that starts now surely has the new keys file.
  kubectl --namespace gleaner rollout restart deployment/gleaner-gateway
  kubectl --namespace gleaner rollout status deployment/gleaner-gateway --timeout 10m
  sed -E 's/.*"key": ?"([^"]+)".*/\1/' <<< "$created" | tr -d '\n' | write_secret gleaner-test-key api-key
}

rollback() { # environment
  local ours=(--namespace gleaner --selector app.kubernetes.io/instance=gleaner)
  local autoscaled='' target replicas line='{.spec.scaleTargetRef.kind}/{.spec.scaleTargetRef.name} {.status.desiredReplicas}'
  echo "rolling $1 back" >&2
  if [ "${DRY_RUN:-}" != 1 ]; then
    autoscaled=$(kubectl get horizontalpodautoscaler "${ours[@]}" --output "jsonpath={range .items[*]}$line{'\n'}{end}") \
      || echo "release.sh: replicas become those of the older release, until their autoscalers change them" >&2
  fi
  # A release has the replicas of the day it was made, often 0. The autoscalers own that field, so it has to be forced; those
  # that they had are set again at once, before anything is waited for.
  run helm rollback gleaner --namespace gleaner --force-conflicts --timeout 30m
  while read -r target replicas; do
    [ "${replicas:-0}" -gt 0 ] || continue
    run kubectl --namespace gleaner scale "$target" --replicas "$replicas" || echo "release.sh: $target was not scaled" >&2
  done <<< "$autoscaled"
  run kubectl rollout status deployment,statefulset "${ours[@]}" --timeout 30m
}

step=$1
shift
case $step in
  build | scan | push | publish)
    expect "$registry" registry "$1" && expect "$name" version "$2"
    [ "$step" != build ] || expect "$registry(:$name)?(@sha256:[0-9a-f]+)?" 'base image' "$3"
    ;;
  package) expect "$name" version "$1" ;;
  deploy | smoke | rollback)
    expect 'dev|staging|prod' environment "$1"
    [ "$step" != deploy ] || expect 'aws|gcp|azure|onprem|none' place "$2"
    [ "$step" != deploy ] || expect "$registry" registry "$3"
    [ "$step" != deploy ] || expect '[0-9a-f]*' 'model revision' "${4:-}"
    ;;
esac
case $step in
  build | scan | push | package | publish | sign | deploy | smoke | rollback) "$step" "$@" ;;
  *) echo "release.sh: no step $step" >&2 && exit 2 ;;
esac
