#!/usr/bin/env bash
# Builds the image: envs/build.sh [cpu|cuda] [TAG], with podman, or with docker if there is no podman.
# BASE selects another base image (a tag or name@sha256:...). The script prints the base's digest and stores it as a
# label. The last line names the image by its own digest, which a run can require (HARNESS_REQUIRE_IMAGE).
# pip in the build uses the settings of pip here: index, extra indexes, folders of wheels (podman only), certificates.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${1:-cpu}
tag=${2:-localhost/lth-harness:$target}
case $target in
  cpu | cuda) ;;
  *)
    echo "usage: envs/build.sh [cpu|cuda] [TAG]" >&2
    exit 2
    ;;
esac
base=${BASE:-$(sed -n 's/^ARG BASE=//p' Dockerfile | head -n 1)}
engine=${CONTAINER_ENGINE:-$(command -v podman >/dev/null && echo podman || echo docker)}

options=(--target "$target" --tag "$tag" --build-arg "BASE=$base" ${BUILD_OPTIONS:-})
setting() {  # the value of a pip option here, from the environment or the configuration
  python3 -m pip config list 2>/dev/null | sed -n "s/^\(:env:\|global\|user\|site\)\.$1='\(.*\)'\$/\2/p" | tr '\n' ' '
}
declare -A mounts
for name in index-url extra-index-url find-links; do
  value=$(setting "$name")
  [ -n "${value// /}" ] || continue
  upper=${name^^}
  options+=(--build-arg "PIP_${upper//-/_}=${value% }")
  for path in $value; do
    path=${path#file://}
    [ "${path##*/}" = simple ] && path=${path%/*}  # the files are beside the index
    [ ! -d "$path" ] || mounts[$path]=1
  done
done
if [ "$engine" = podman ]; then
  authorities=/etc/ssl/certs/ca-certificates.crt
  [ ! -s "$authorities" ] || mounts[$authorities]=1
  for path in "${!mounts[@]}"; do options+=(-v "$path:$path:ro"); done
  options+=(--format docker --network host)
fi

"$engine" image inspect "$base" >/dev/null 2>&1 || "$engine" pull "$base"
digest=$("$engine" image inspect --format '{{if .RepoDigests}}{{index .RepoDigests 0}}{{else}}{{.Id}}{{end}}' "$base")
digest=${digest##*@}
revision=
unset "${!GIT_@}"  # a hook's GIT_DIR names another repository
if [ "$(git rev-parse --show-toplevel 2>/dev/null)" = "$(pwd -P)" ] && git ls-files --error-unmatch harness/__init__.py >/dev/null; then
  revision=$(git rev-parse HEAD)
  changes=$(git status --porcelain --untracked-files=no; git ls-files --others --exclude-standard Snakefile harness papers)
  [ -z "$changes" ] || revision="$revision-changed"
fi
echo "base $base: $digest"
"$engine" build "${options[@]}" --build-arg "BASE_DIGEST=$digest" --build-arg "REVISION=$revision" .
echo "size $("$engine" image inspect --format '{{.Size}}' "$tag" | awk '{printf "%.0f MB", $1 / 1e6}')"
bash envs/image.sh "$tag"
