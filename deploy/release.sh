#!/usr/bin/env bash
# The steps of a release, one per call, the same for Jenkins, GitHub Actions and a person:
#
#   release.sh build    REGISTRY VERSION BASE   both images, and the worker's CUDA variant
#   release.sh scan     REGISTRY VERSION        vulnerabilities of HIGH and above fail; SBOMs as sbom-<image>.json
#   release.sh push     REGISTRY VERSION        digests into digests.env
#   release.sh sign                             the images in digests.env, with the SBOMs attached
#   release.sh deploy   ENVIRONMENT REGISTRY [MODEL_REVISION]
#   release.sh smoke    ENVIRONMENT             one job; rolls back if it fails
#   release.sh rollback ENVIRONMENT
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

build() { # registry version base
  local common=(--build-arg "BASE=$3" --build-arg "REVISION=$2")
  run buildah bud --format docker "${common[@]}" -f Dockerfile.gateway -t "$(tag "$1" "$2" gateway)" .
  run buildah bud --format docker "${common[@]}" -f Dockerfile.worker --target cpu -t "$(tag "$1" "$2" worker)" .
  run buildah bud --format docker "${common[@]}" -f Dockerfile.worker --target cuda -t "$(tag "$1" "$2" worker-cuda)" .
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
  run buildah login --username "$REGISTRY_USER" --password-stdin "${1%%/*}" <<< "$REGISTRY_PASSWORD"
  : > digests.env
  for image in "${images[@]}"; do
    run buildah push --digestfile "digest-$image" "$(tag "$1" "$2" "$image")"
    if [ "${DRY_RUN:-}" = 1 ]; then echo "sha256:dry-run" > "digest-$image"; fi
    echo "$(tr a-z- A-Z_ <<< "$image")=$1/gleaner-${image%-cuda}@$(cat "digest-$image")" >> digests.env
    rm "digest-$image"
  done
}

sign() {
  local line image
  while read -r line; do
    image=${line#*=}
    run cosign sign --yes --key "$COSIGN_KEY" "$image"
    run cosign attest --yes --key "$COSIGN_KEY" --type cyclonedx \
      --predicate "sbom-$(tr A-Z_ a-z- <<< "${line%%=*}").json" "$image"
  done < digests.env
}

digest() { sed -n "s/^$1=.*@//p" digests.env; }

deploy() { # environment registry [model revision]
  local options=(--set "images.registry=$2" --set "images.gateway.digest=$(digest GATEWAY)")
  options+=(--set "images.worker.digest=$(digest WORKER)")
  if [ "$1" = prod ]; then
    options+=(--set "models.gliner-medium-v2\.1.imageDigest=$(digest WORKER_CUDA)")
    # Without one the overlay's revision is used.
    [ -z "${3:-}" ] || options+=(--set "models.gliner-medium-v2\.1.revision=$3")
  fi
  # --rollback-on-failure is Helm 4's name of --atomic: a release that does not become ready is rolled back.
  run helm upgrade --install gleaner charts/gleaner --namespace gleaner --create-namespace \
    --values "charts/gleaner/values-$1.yaml" "${options[@]}" --wait --timeout 30m --rollback-on-failure
}

smoke() { # environment
  run helm test gleaner --namespace gleaner --logs --timeout 20m || { rollback "$1" && exit 1; }
}

rollback() { # environment
  echo "rolling $1 back" >&2
  run helm rollback gleaner --namespace gleaner --wait --timeout 30m
}

step=$1
shift
case $step in
  build | scan | push)
    expect "$registry" registry "$1" && expect "$name" version "$2"
    [ "$step" != build ] || expect "$registry(:$name)?(@sha256:[0-9a-f]+)?" 'base image' "$3"
    ;;
  deploy | smoke | rollback)
    expect 'staging|prod' environment "$1"
    [ "$step" != deploy ] || expect "$registry" registry "$2"
    [ "$step" != deploy ] || expect '[0-9a-f]*' 'model revision' "${3:-}"
    ;;
esac
case $step in
  build | scan | push | sign | deploy | smoke | rollback) "$step" "$@" ;;
  *) echo "release.sh: no step $step" >&2 && exit 2 ;;
esac
