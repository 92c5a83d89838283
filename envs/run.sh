#!/usr/bin/env bash
# Runs harness isolated in its image: envs/run.sh IMAGE RESULTS ARGUMENTS..., such as
#   envs/run.sh localhost/lth-harness:cpu results reproduce --scale smoke
# The container has no network, a read-only root, no capabilities and no root user. It writes only to RESULTS and, if
# set, to DATA, a folder of data sets that also stores the converted ImageNet. GPUS=1 gives it this machine's GPUs. The
# run records the image's digest with its results; HARNESS_REQUIRE_IMAGE=sha256:... refuses any other image.
set -euo pipefail
here=$(dirname "$0")
engine=${CONTAINER_ENGINE:-$(command -v podman >/dev/null && echo podman || echo docker)}
image=$(bash "$here/image.sh" "${1:?usage: envs/run.sh IMAGE RESULTS ARGUMENTS...}")
tag=$1
mkdir -p "${2:?usage: envs/run.sh IMAGE RESULTS ARGUMENTS...}"
results=$(realpath "$2")
shift 2
options=(--rm --network none --read-only --tmpfs /tmp --cap-drop all --ipc private)
options+=(--security-opt no-new-privileges --security-opt label=disable)
options+=(--volume "$results:/results" --env "HARNESS_IMAGE=${image##*@}")
if [ "$(id -u)" = 0 ]; then
  [ -n "$(ls -A "$results")" ] || chown 1000:1000 "$results"
  if [ "$(stat -c %u "$results")" != 1000 ]; then
    echo "error: $results: must belong to user 1000, who runs in the container: chown -R 1000:1000 $results" >&2
    exit 1
  fi
elif [ "$engine" = podman ]; then
  options+=(--userns keep-id --user "$(id -u):$(id -g)")
else
  options+=(--user "$(id -u):$(id -g)")
fi
for name in HARNESS_REQUIRE_IMAGE HARNESS_KERNELS HARNESS_DEVICE HARNESS_GPUS; do
  [ -z "${!name:-}" ] || options+=(--env "$name")
done
[ -z "${DATA:-}" ] || options+=(--volume "$(realpath "$DATA"):/data")
if [ -n "${GPUS:-}" ]; then
  [ "$engine" = docker ] && options+=(--gpus all) || options+=(--device nvidia.com/gpu=all)
fi
exec "$engine" run "${options[@]}" ${RUN_OPTIONS:-} "$tag" "$@"
