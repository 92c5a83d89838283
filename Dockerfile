# The harness with all that it needs, from hash-pinned locks: targets `cpu` and `cuda`, built by envs/build.sh.
# Plain instructions only, so that docker, podman and buildah build it alike. CUDA comes with PyTorch's packages.
ARG BASE=docker.io/library/python:3.11.13-slim-bookworm

# The harness as a checkout, its kernels compiled for every kind of CPU of this architecture: a run picks its own.
FROM ${BASE} AS project
# pip's own settings, for a mirror or a folder of wheels; they are not kept in the images
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
COPY envs/lock-build.txt /tmp/
RUN python3 -m venv /opt/venv && /opt/venv/bin/pip install --no-deps --require-hashes -r /tmp/lock-build.txt
COPY pyproject.toml setup.py README.md LICENSE Snakefile params.yaml /opt/harness/
COPY papers /opt/harness/papers
COPY harness /opt/harness/harness
RUN /opt/venv/bin/pip install --no-deps --no-build-isolation --config-settings editable_mode=compat --editable /opt/harness \
 && ls /opt/harness/harness/kernels/kernels-*.so \
 && /opt/venv/bin/pip uninstall --yes --requirement /tmp/lock-build.txt pip \
 && ln -s /results /opt/harness/results && ln -s /results/.snakemake /opt/harness/.snakemake \
 && ln -s /data /opt/harness/data && touch /opt/harness/.image

FROM ${BASE} AS packages-cpu
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
COPY envs/lock-build.txt envs/lock-cpu.txt /tmp/
RUN python3 -m venv /opt/venv && grep -v ziglang /tmp/lock-build.txt > /tmp/first.txt \
 && /opt/venv/bin/pip install --no-deps --require-hashes -r /tmp/first.txt \
 && /opt/venv/bin/pip install --no-deps --require-hashes --no-build-isolation -r /tmp/lock-cpu.txt
RUN grep storage-plugin-s3 /tmp/lock-cpu.txt > /tmp/storage.txt \
 && /opt/venv/bin/pip download --no-deps --require-hashes --dest /opt/plugins -r /tmp/storage.txt

FROM ${BASE} AS packages-cuda
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
COPY envs/lock-build.txt envs/lock-cuda.txt /tmp/
RUN python3 -m venv /opt/venv && grep -v ziglang /tmp/lock-build.txt > /tmp/first.txt \
 && /opt/venv/bin/pip install --no-deps --require-hashes -r /tmp/first.txt \
 && /opt/venv/bin/pip install --no-deps --require-hashes --no-build-isolation -r /tmp/lock-cuda.txt
RUN grep storage-plugin-s3 /tmp/lock-cuda.txt > /tmp/storage.txt \
 && /opt/venv/bin/pip download --no-deps --require-hashes --dest /opt/plugins -r /tmp/storage.txt

# Nothing here needs to be written but /results, /data and /tmp, so the root may be read-only.
FROM ${BASE} AS runtime
RUN groupadd --gid 1000 harness && useradd --uid 1000 --gid 1000 --no-create-home --home-dir /tmp harness \
 && install -d -o harness -g harness /results /data
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# in a pod the workflow engine asks pip for its storage plugin: it gets the one of the lock, from no network
ENV PIP_NO_INDEX=1 PIP_NO_DEPS=1 PIP_FIND_LINKS=/opt/plugins PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /opt/harness
ENTRYPOINT ["harness"]

FROM runtime AS cpu
COPY --from=packages-cpu /opt/plugins /opt/plugins
COPY --from=packages-cpu /opt/venv /opt/venv
COPY --from=project /opt/venv /opt/venv
COPY --from=project /opt/harness /opt/harness
USER harness
ARG BASE
ARG BASE_DIGEST=""
ARG REVISION=""
ENV HARNESS_REVISION=${REVISION}
LABEL org.opencontainers.image.title="lth-harness (CPU)" org.opencontainers.image.licenses="Apache-2.0" \
 org.opencontainers.image.revision="${REVISION}" org.opencontainers.image.base.name="${BASE}" \
 org.opencontainers.image.base.digest="${BASE_DIGEST}"

FROM runtime AS cuda
COPY --from=packages-cuda /opt/plugins /opt/plugins
COPY --from=packages-cuda /opt/venv /opt/venv
COPY --from=project /opt/venv /opt/venv
COPY --from=project /opt/harness /opt/harness
USER harness
ARG BASE
ARG BASE_DIGEST=""
ARG REVISION=""
ENV HARNESS_REVISION=${REVISION} NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
LABEL org.opencontainers.image.title="lth-harness (CUDA)" org.opencontainers.image.licenses="Apache-2.0" \
 org.opencontainers.image.revision="${REVISION}" org.opencontainers.image.base.name="${BASE}" \
 org.opencontainers.image.base.digest="${BASE_DIGEST}"
