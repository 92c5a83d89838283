#!/usr/bin/env bash
# A stand-in for python:3.11-slim-bookworm where no public image can be pulled, made of Debian 12's own packages:
# base.sh TAR NAME. As there, python and pip are on PATH.
set -euo pipefail
tar=$1
name=$2
mmdebstrap --variant=minbase --include=ca-certificates,python3,python3-venv,python3-pip \
  --aptopt='Acquire::Languages "none"' \
  --customize-hook='ln -s /usr/bin/python3 "$1/usr/local/bin/python"; ln -s /usr/bin/pip3 "$1/usr/local/bin/pip"' \
  bookworm "$tar"
podman import --quiet --change 'CMD ["python3"]' "$tar" "$name"
rm -f "$tar"
