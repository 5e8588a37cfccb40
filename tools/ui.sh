#!/usr/bin/env bash
# Serves the runs of this project on 127.0.0.1 (PORT=5000), from MLFLOW_TRACKING_URI or mlflow.db.
set -euo pipefail
port=${PORT:-5000}
uri=${MLFLOW_TRACKING_URI:-sqlite:///$PWD/mlflow.db}
if [ "$uri" = "sqlite:///$PWD/mlflow.db" ] && [ ! -e mlflow.db ]; then
    echo "ui: there are no runs yet; make some with: make repro" >&2
    exit 2
fi
export MLFLOW_DISABLE_TELEMETRY=true MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false
echo "ui: http://127.0.0.1:$port/#/experiments?workflowType=machine_learning (Ctrl-C ends it)"
exec mlflow ui --backend-store-uri "$uri" --default-artifact-root "$PWD/mlartifacts" --host 127.0.0.1 --port "$port" --workers 1
