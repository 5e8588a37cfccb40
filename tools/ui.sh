#!/usr/bin/env bash
# Serves the runs of this project on 127.0.0.1 (PORT=5000), from MLFLOW_TRACKING_URI or mlflow.db.
# Works from any folder, also after the project was moved.
set -euo pipefail
port=${PORT:-5000}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# python -m, because scripts in a moved virtual environment contain its old path
python=$here/.venv/bin/python
[ -x "$python" ] || python=python
lines=$(PYTHONPATH=$here/src "$python" -m darkroom.tracking.mlflow.ui)
{ read -r root && read -r page && read -r address; } <<<"$lines"

if [ -z "${MLFLOW_TRACKING_URI:-}" ] && [ ! -e "$root/mlflow.db" ]; then
    echo "ui: there are no runs yet; make some with: make repro" >&2
    exit 2
fi
case ${MLFLOW_TRACKING_URI:-} in http://* | https://*)
    echo "ui: the runs are on a server: $address" >&2
    exit 2 ;;
esac
# in environment variables, because every user can read a command line
export MLFLOW_BACKEND_STORE_URI=${MLFLOW_TRACKING_URI:-sqlite:///$root/mlflow.db}
export MLFLOW_DISABLE_TELEMETRY=true MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false
echo "ui: http://127.0.0.1:$port/#$page (Ctrl-C ends it)"
exec "$python" -m mlflow ui --default-artifact-root "$root/mlartifacts" --host 127.0.0.1 --port "$port" --workers 1 \
    > >(PYTHONPATH=$here/src exec "$python" -m darkroom.tracking.redacted_output) 2>&1
