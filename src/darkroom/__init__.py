"""A reproducible classification pipeline. No library that it uses may report on its users."""

import os

# read by ONNX Runtime when it is imported, here and in child processes
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
