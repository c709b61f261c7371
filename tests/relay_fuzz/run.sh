#!/usr/bin/env bash
# Fuzzes a relay over the description of its own interface: run.sh [REQUESTS] [SEED]. Needs python3; installs what it uses into a folder
# of its own. Build first: cargo build -p cairn.
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=target/relay-fuzz
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet schemathesis==4.32.5 blake3==1.0.11 PyNaCl==1.6.2
exec "$venv/bin/python" tests/relay_fuzz/fuzz.py target/debug/cairn "${1:-50000}" "${2:-1}"
