#!/usr/bin/env bash
# Runs the tests that need a CUDA GPU, and measures training on it.
#   bash tools/gpu.sh [tests loop mode checkpoint start resume peers]    (default: all)
# Needs torch, torchvision, pyarrow, Pillow and pytest. Lightning and timm are measured if they are installed,
# and the start of the stage if all packages of requirements.lock are. PYTHON is the interpreter, and CIFAR10
# the archive of images for peers.py. Figures are appended to benchmarks/results/.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
export PYTHONPATH=$PWD/src${PYTHONPATH:+:$PYTHONPATH}
steps=("$@")
[ $# -gt 0 ] || steps=(tests loop mode checkpoint start resume peers)

"$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' || {
    echo "gpu: torch finds no CUDA GPU on this machine" >&2
    exit 2
}

run_tests() {
    if "$python" -c 'import mlflow, pydantic, ruamel.yaml' 2>/dev/null; then
        "$python" -m pytest -m cuda
    else
        "$python" -m pytest --noconftest -m cuda tests/unit/test_cuda.py
    fi
}

run_peers() {
    if [ -z "${CIFAR10:-}" ]; then
        echo "gpu: peers skipped; set the archive of images: CIFAR10=cifar10-jpeg.tar.xz" >&2
        return
    fi
    "$python" benchmarks/peers.py "$CIFAR10" --device cuda --epochs 4
}

status=0
for step in "${steps[@]}"; do
    echo "gpu: $step"
    case $step in
    tests) run_tests || status=1 ;;
    peers) run_peers || status=1 ;;
    *) "$python" benchmarks/train_loop.py --device cuda --parts "$step" || status=1 ;;
    esac
done
exit "$status"
