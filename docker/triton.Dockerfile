# Triton with what the Python models need, and sam3-serve to run it (docs/deployment.md). Targets:
#   cpu    for a mounted model repository
#   gpu    the same with cupy, which keeps features in GPU memory
#   baked  one of the two (--build-arg VARIANT=cpu) with the repository and its artifacts inside
# 24.10 is Triton 2.51, the release that this project is tested with.
ARG RELEASE=24.10
ARG VARIANT=gpu

FROM nvcr.io/nvidia/tritonserver:${RELEASE}-py3 AS cpu

# NVIDIA's images from 24.11 on have a Python that would refuse; those before do not know the variable.
ENV PIP_BREAK_SYSTEM_PACKAGES=1
WORKDIR /opt/sam3
COPY docker/constraints.txt docker/serve.sh ./
COPY LICENSE source/
COPY client source/client
COPY server source/server
# The system's Python is the one that Triton's Python models run in.
RUN python3 -m pip install --no-cache-dir -c constraints.txt ./source/client ./source/server \
    && rm -r source
COPY ensemble_configs ensemble_configs
# Engines of TensorRT and kernels of cupy. The user is NVIDIA's, with the id 1000.
RUN mkdir -p model_repository /var/cache/sam3/tensorrt && chown -R triton-server: /var/cache/sam3
ENV CUPY_CACHE_DIR=/var/cache/sam3/cupy
USER 1000:1000
EXPOSE 8010 8011 8012
STOPSIGNAL SIGTERM
# Replays the golden clicks of the export: wrong masks are as bad as none. Where the server has forgotten their images it
# encodes them, so this is done seldom once it has succeeded; sam3-serve restarts a dead server by itself.
HEALTHCHECK --interval=5m --timeout=5m --start-period=20m --start-interval=10s --retries=2 \
    CMD ["sam3", "doctor", "--golden", "--repository", "/opt/sam3/model_repository"]
# Not the entrypoint: NVIDIA's tells what is wrong with a driver.
CMD ["/opt/sam3/serve.sh"]

FROM cpu AS gpu
USER 0
RUN python3 -m pip install --no-cache-dir -c constraints.txt cupy-cuda12x
USER 1000:1000

# hadolint ignore=DL3006
FROM ${VARIANT} AS baked
COPY model_repository /opt/sam3/model_repository
