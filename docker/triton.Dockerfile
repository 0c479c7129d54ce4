# Triton with the packages of the Python models, and sam3-serve to run it (docs/deployment.md). Targets:
#   cpu    for a mounted model repository
#   gpu    the same with cupy, which keeps features in GPU memory
#   baked  one of the two (--build-arg VARIANT=cpu) with the repository and its artifacts inside
# 24.10 is Triton 2.51, the release that this project is tested with.
ARG RELEASE=24.10
ARG VARIANT=gpu

FROM nvcr.io/nvidia/tritonserver:${RELEASE}-py3 AS cpu

# From 24.11 on, the Python of NVIDIA's images refuses to install without this. Earlier ones ignore the variable.
ENV PIP_BREAK_SYSTEM_PACKAGES=1
WORKDIR /opt/sam3
# The proxy in front of several replicas (sam3-serve --replicas, --gpus). Security fixes come with a rebuild, so it is not pinned.
# hadolint ignore=DL3008
RUN apt-get update -qq \
    && apt-get install -qq -y --no-install-recommends haproxy \
    && rm -r /var/lib/apt/lists/*
COPY docker/constraints.txt docker/serve.sh ./
COPY LICENSE source/
COPY client source/client
COPY server source/server
# Triton's Python models run in the system's Python.
RUN python3 -m pip install --no-cache-dir -c constraints.txt ./source/client ./source/server \
    && rm -r source
COPY ensemble_configs ensemble_configs
# For TensorRT's engines and cupy's kernels. The user is NVIDIA's and has the id 1000.
RUN mkdir -p model_repository /var/cache/sam3/tensorrt && chown -R triton-server: /var/cache/sam3
ENV CUPY_CACHE_DIR=/var/cache/sam3/cupy
USER 1000:1000
EXPOSE 8010 8011 8012 8013
STOPSIGNAL SIGTERM
# Replays the export's golden clicks, because wrong masks are as bad as none. Rarely, once it has passed: the picture must
# be encoded again if the cache has evicted it, and sam3-serve restarts a dead server itself. Until then more often: Compose
# sets start_interval, which podman's builds do not know.
HEALTHCHECK --interval=5m --timeout=5m --start-period=20m --retries=2 \
    CMD ["sam3", "doctor", "--golden", "--repository", "/opt/sam3/model_repository"]
# Not the entrypoint: NVIDIA's own reports problems with the driver.
CMD ["/opt/sam3/serve.sh"]

FROM cpu AS gpu
USER 0
RUN python3 -m pip install --no-cache-dir -c constraints.txt cupy-cuda12x
USER 1000:1000

# hadolint ignore=DL3006
FROM ${VARIANT} AS baked
COPY model_repository /opt/sam3/model_repository
