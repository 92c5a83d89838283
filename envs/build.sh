#!/usr/bin/env bash
# Builds the image: envs/build.sh [cpu|cuda] [TAG]. With podman, or with docker where there is no podman.
# BASE chooses another base (a tag or name@sha256:...). The base's digest is resolved, printed and kept as a label; the
# last line names the image by its own digest, as a run can demand it.
# pip in the build has the settings of pip here: index, further indexes, folders of wheels (podman only), certificates.
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
setting() {  # what pip is told here by environment or configuration, for one option
  python3 -m pip config list 2>/dev/null | sed -n "s/^\(:env:\|global\|user\|site\)\.$1='\(.*\)'\$/\2/p" | tr '\n' ' '
}
declare -A mounts
for name in index-url extra-index-url find-links; do
  value=$(setting "$name")
  [ -n "${value// /}" ] || continue
  upper=${name^^}
  options+=(--build-arg "PIP_${upper//-/_}=${value% }")
  for place in $value; do
    place=${place#file://}
    [ "${place##*/}" = simple ] && place=${place%/*}  # an index lies beside its files
    [ ! -d "$place" ] || mounts[$place]=1
  done
done
if [ "$engine" = podman ]; then
  authorities=/etc/ssl/certs/ca-certificates.crt
  [ ! -s "$authorities" ] || mounts[$authorities]=1
  for place in "${!mounts[@]}"; do options+=(-v "$place:$place:ro"); done
  options+=(--format docker --network host)
fi

"$engine" image inspect "$base" >/dev/null 2>&1 || "$engine" pull "$base"
digest=$("$engine" image inspect --format '{{if .RepoDigests}}{{index .RepoDigests 0}}{{else}}{{.Id}}{{end}}' "$base")
digest=${digest##*@}
revision=$(git rev-parse HEAD 2>/dev/null || true)
[ -z "$(git status --porcelain --untracked-files=no 2>/dev/null)" ] || revision="$revision-changed"
echo "base $base: $digest"
"$engine" build "${options[@]}" --build-arg "BASE_DIGEST=$digest" --build-arg "REVISION=$revision" .
echo "size $("$engine" image inspect --format '{{.Size}}' "$tag" | awk '{printf "%.0f MB", $1 / 1e6}')"
bash envs/image.sh "$tag"
