#!/usr/bin/env bash
# Prints an image as name@sha256:digest, which names these very bytes: envs/image.sh TAG.
set -euo pipefail
engine=${CONTAINER_ENGINE:-$(command -v podman >/dev/null && echo podman || echo docker)}
name=${1:?usage: envs/image.sh TAG}
found=$("$engine" image inspect --format '{{if .RepoDigests}}{{index .RepoDigests 0}}{{else}}{{.Id}}{{end}}' "$name")
case $found in
  *@sha256:*) echo "$found" ;;
  *)
    last=${name##*/} # a colon before the last slash is a registry's port
    echo "${name%"$last"}${last%%:*}@sha256:${found#sha256:}"
    ;;
esac
