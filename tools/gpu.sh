#!/usr/bin/env bash
# On a machine with a CUDA GPU: runs the tests that need one, and measures training on it.
#   bash tools/gpu.sh [tests loop mode checkpoint start resume peers]    (all, if none is named)
# It needs torch, torchvision, pyarrow, Pillow and pytest; Lightning and timm are measured where they are
# installed, and the stage's own start where all packages of requirements.lock are. PYTHON is the interpreter,
# CIFAR10 the archive of images that peers.py asks for. Figures are added to benchmarks/results/.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
export PYTHONPATH=$PWD/src${PYTHONPATH:+:$PYTHONPATH}
steps=("$@")
[ $# -gt 0 ] || steps=(tests loop mode checkpoint start resume peers)

"$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' || {
    echo "gpu: torch finds no CUDA GPU here" >&2
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
        echo "gpu: peers left out; say where the images are: CIFAR10=cifar10-jpeg.tar.xz" >&2
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
