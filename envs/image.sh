#!/usr/bin/env bash
# Prints the name of an image with its digest, name@sha256:...: envs/image.sh TAG.
set -euo pipefail
engine=${CONTAINER_ENGINE:-$(command -v podman >/dev/null && echo podman || echo docker)}
name=${1:?usage: envs/image.sh TAG}
digest=$("$engine" image inspect --format '{{if .RepoDigests}}{{index .RepoDigests 0}}{{else}}{{.Id}}{{end}}' "$name")
case $digest in
  *@sha256:*) echo "$digest" ;;
  *)
    last=${name##*/} # a colon before the last slash is a registry's port
    echo "${name%"$last"}${last%%:*}@sha256:${digest#sha256:}"
    ;;
esac
