#!/bin/sh
# Like NVIDIA's entrypoint, it prints a few lines and then becomes the command.
echo "== Stand-in for Triton Inference Server: not NVIDIA's image =="
exec "$@"
