#!/bin/sh
# What the Triton container runs: sam3-serve on all addresses. Arguments are further options of sam3-serve.
set -eu

# Endpoints that no click needs, and that read or write files and memory of the server. Where SAM3_ADMIN_KEY is set,
# those who send it in the header `sam3-admin` (gRPC: `triton-grpc-protocol-sam3-admin`) may use them; else nobody.
closed="model-repository,shared-memory,trace,logging:sam3-admin=${SAM3_ADMIN_KEY:-$(cat /proc/sys/kernel/random/uuid)}"

exec sam3-serve --repository /opt/sam3/model_repository --address 0.0.0.0 "$@" -- \
    --model-control-mode=none \
    --strict-readiness=true \
    --log-format=ISO8601 \
    "--http-restricted-api=$closed" \
    "--grpc-restricted-protocol=$closed"
