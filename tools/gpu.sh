#!/usr/bin/env bash
# Runs on a CUDA GPU what needs one, in the order of what is worth most if time is short.
#   bash tools/gpu.sh [versions tests models steps loop mode checkpoint start resume peers matrix]
#                                                                                   (default: all)
# Needs torch, torchvision, pyarrow, Pillow, safetensors, rich and pytest; not pydantic, MLflow, DVC or
# ruamel.yaml. Lightning and timm are measured if they are installed; the start of the stage, and all other
# tests for a GPU, if all packages of requirements.lock are. PYTHON is the interpreter, CIFAR10 the archive
# of images for peers.py. Figures are appended to benchmarks/results/ with the name of the GPU and the
# versions. DEVICE=cpu tries the script without a GPU, with tiny sizes; do not keep its figures.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
device=${DEVICE:-cuda}
export PYTHONPATH=$PWD/src${PYTHONPATH:+:$PYTHONPATH}
steps=("$@")
[ $# -gt 0 ] || steps=(versions tests models steps loop mode checkpoint start resume peers matrix)

if [ "$device" = cuda ]; then
    "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' || {
        echo "gpu: torch finds no CUDA GPU on this machine" >&2
        exit 2
    }
fi
has_all() { "$python" -c 'import mlflow, pydantic, ruamel.yaml' 2>/dev/null; }

run_versions() {
    "$python" -c 'import torch; print("torch", torch.__version__, "cuDNN", torch.backends.cudnn.version())'
    if [ "$device" = cuda ]; then
        nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv
    fi
}

run_tests() {
    # kills, resumes and compiled trainings in fresh processes among them
    if [ "$device" = cpu ]; then
        "$python" -m pytest --noconftest -m "not slow" tests/unit/test_cuda.py
    elif has_all; then
        "$python" -m pytest -m cuda
    else
        "$python" -m pytest --noconftest -m cuda tests/unit/test_cuda.py
    fi
}

# so that a failure does not end the steps that follow
try() { "$@" || status=1; }

# what a machine without a GPU tries instead of what a GPU measures
tiny() { [ "$device" = cpu ]; }

run_loop() {
    loop=("$python" benchmarks/train_loop.py --device "$device" --parts loop)
    if tiny; then
        "${loop[@]}" --sizes digits --seconds 0.2 --repeats 2 --train ema_decay=0.9 clip_norm=1.0
        return
    fi
    bfloat16=(precision=bfloat16 compile=default)
    crop=(--augment crop_padding=0 resized_crop=0.35)
    try "${loop[@]}" --sizes digits cifar
    try "${loop[@]}" --sizes cifar cifar1000 --train "${bfloat16[@]}"
    try "${loop[@]}" --sizes resnet50 --train precision=bfloat16
    try "${loop[@]}" --sizes resnet50 --train precision=bfloat16 ema_decay=0.999 clip_norm=1.0
    try "${loop[@]}" --sizes resnet50 --train precision=bfloat16 "${crop[@]}"
}

run_part() {
    part=("$python" benchmarks/train_loop.py --device "$device" --parts "$1")
    if tiny; then
        "${part[@]}" --sizes digits --seconds 0.2 --repeats 2
    else
        "${part[@]}"
    fi
}

run_peers() {
    if [ -z "${CIFAR10:-}" ]; then
        echo "gpu: peers skipped; set the archive of images: CIFAR10=cifar10-jpeg.tar.xz" >&2
        return
    fi
    images=5000 epochs=4
    if tiny; then images=40 epochs=2; fi
    "$python" benchmarks/peers.py "$CIFAR10" --device "$device" --epochs $epochs \
        --images-per-class $images
}

run_gpu() {
    part=("$python" benchmarks/gpu.py --device "$device" --parts "$1")
    if tiny; then
        "${part[@]}" --models torchvision:resnet18 --sizes digits --seconds 0.1 --repeats 1
    else
        "${part[@]}"
    fi
}

status=0
for step in "${steps[@]}"; do
    echo "gpu: $step"
    case $step in
    versions) run_versions || status=1 ;;
    tests) run_tests || status=1 ;;
    loop) run_loop || status=1 ;;
    peers) run_peers || status=1 ;;
    models | steps | matrix) run_gpu "$step" || status=1 ;;
    mode | checkpoint | start | resume) run_part "$step" || status=1 ;;
    *)
        echo "gpu: $step is not a step" >&2
        exit 2
        ;;
    esac
done
exit "$status"
