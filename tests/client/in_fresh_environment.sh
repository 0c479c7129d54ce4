#!/usr/bin/env bash
# Builds the client's wheel, installs it into a fresh environment of $PYTHON (default: python3) and runs the client's unit
# tests there; before that it prints the size of the installation and what an import brings in.
set -euo pipefail
cd "$(dirname "$0")/../.."

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
python="$folder/venv/bin/python"
"$python" -m pip wheel --quiet --no-deps --wheel-dir "$folder" ./client
"$python" -m pip install --quiet "$folder"/sam3_triton-*.whl

"$python" --version
site=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
echo "Installed with the gRPC transport, without pip: $(du -sm --exclude='pip*' "$site" | cut -f1) MB"

"$python" -m pip install --quiet "$(echo "$folder"/sam3_triton-*.whl)[http]" 'pytest>=8.3'
"$python" -m pytest tests/client "$@"
