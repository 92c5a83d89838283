#!/usr/bin/env bash
# The cpu image on a base of Debian packages, which is made if it is not there: build.sh [BASE].
set -euo pipefail
here=$(realpath "$(dirname "$0")")
export BASE=${1:-localhost/python:3.11-slim-bookworm} CONTAINERS_CONF=$here/containers.conf
if ! podman image exists "$BASE"; then
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' EXIT
  bash "$here/base.sh" "$folder/base.tar" "$BASE"
fi
bash "$here/../../envs/build.sh" cpu
