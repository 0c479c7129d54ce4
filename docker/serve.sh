#!/bin/sh
# The command of the Triton container: sam3-serve on all addresses. Arguments are passed on to sam3-serve. SAM3_PROFILE names
# a profile; without it, sam3-serve chooses one.
set -eu

# These endpoints read or write the server's files and memory, and no click needs them. Only callers that send SAM3_ADMIN_KEY
# in the header `sam3-admin` (gRPC: `triton-grpc-protocol-sam3-admin`) may use them. Without SAM3_ADMIN_KEY they are closed.
closed="model-repository,shared-memory,trace,logging:sam3-admin=${SAM3_ADMIN_KEY:-$(cat /proc/sys/kernel/random/uuid)}"

exec sam3-serve --repository /opt/sam3/model_repository --address 0.0.0.0 ${SAM3_PROFILE:+--profile "$SAM3_PROFILE"} "$@" -- \
    --model-control-mode=none \
    --strict-readiness=true \
    --log-format=ISO8601 \
    "--http-restricted-api=$closed" \
    "--grpc-restricted-protocol=$closed"
