#!/usr/bin/env bash
# Checks a running server; the exit code is 0 if all checks pass.
#
#   smoke.sh IMAGE.nii.gz [MASK.nii.gz ...]
#
# Each MASK is one of keras-scgm segment for the image with the same weights: NAME_gmseg, NAME_wmseg or NAME_seg. REST and GRPC are the addresses of the
# server. Needs curl and scgm-client with gRPC. NVIDIA_SMI is the command that runs nvidia-smi on the server, to check
# whether gm_nifti uses a GPU: by default in the container of docker-compose.yml; in Kubernetes
#   NVIDIA_SMI="kubectl -n gm-serving exec deploy/gm-serving -- nvidia-smi"
set -euo pipefail
refused() { echo "error: $1" >&2; exit 2; }
[ $# -gt 0 ] || refused "no image; give IMAGE.nii.gz and, to compare with, its masks"
for program in curl scgm-client; do
    command -v "$program" >/dev/null || refused "$program is missing; install it"
done
image=$1
shift
REST=${REST:-http://localhost:8501} GRPC=${GRPC:-grpc://localhost:8500}
NVIDIA_SMI=${NVIDIA_SMI:-docker compose exec -T serving nvidia-smi}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

step() { printf '%-58s' "$1"; }
passed() { echo ok; }
failed() { echo "FAILED${1:+: $1}"; exit 1; }
voxels() { gunzip -c "$1" | tail -c +353; }
refusal() { curl -sS -o "$work/answer" -w '%{http_code}' -d "$1" "$REST/v1/models/gm_nifti:predict"; }
# Utilization of the busiest GPU, per cent.
gpu_percent() {
    (cd "$(dirname "$0")" && $NVIDIA_SMI --query-gpu=utilization.gpu --format=csv,noheader,nounits) 2>/dev/null |
        grep -x '[0-9]*' | sort -n | tail -1
}

step "REST: gm_nifti is available"
scgm-client status --server "$REST" >"$work/log" 2>&1 && passed || failed "$(cat "$work/log")"
step "gRPC: gm_nifti is available"
scgm-client status --server "$GRPC" >"$work/log" 2>&1 && passed || failed "$(cat "$work/log")"
step "REST: gm_slices is available"
scgm-client status --server "$REST" --model gm_slices >"$work/log" 2>&1 && passed || failed "$(cat "$work/log")"

for way in REST GRPC; do
    step "$way: the image gives masks"
    scgm-client segment "$image" --no-picture --server "${!way}" --output "$work/$way" >"$work/log" 2>&1 && passed ||
        failed "$(cat "$work/log")"
done
for mask in "$work"/REST/*seg.nii.gz; do
    step "REST and gRPC give the same ${mask##*_}"
    cmp -s <(voxels "$mask") <(voxels "$work/GRPC/$(basename "$mask")") && passed || failed
done
for expected in "$@"; do
    step "${expected##*_} is the expected one"
    cmp -s <(voxels "$work"/REST/*_"${expected##*_}") <(voxels "$expected") && passed || failed
done

step "text in place of an image is refused (400)"
[[ $(refusal '{"inputs": {"nifti_bytes": [{"b64": "bm8gaW1hZ2U="}]}}') == 400 ]] && passed || failed "$(cat "$work/answer")"
step "a request that is no JSON is refused (400)"
[[ $(refusal 'no json') == 400 ]] && passed || failed "$(cat "$work/answer")"
step "the server still answers"
scgm-client status --server "$REST" >"$work/log" 2>&1 && passed || failed "$(cat "$work/log")"

step "metrics"
# First to a file: grep -q ends at the first match, and curl would then fail to write.
code=$(curl -sS -D "$work/headers" -o "$work/metrics" -w '%{http_code}' "$REST/monitoring/prometheus/metrics" 2>"$work/log") ||
    failed "$(cat "$work/log")"
if grep -qi '^server: keras_scgm development server' "$work/headers"; then
    echo "none (the development server has none)"
else
    grep -q '^:tensorflow:serving:request_count' "$work/metrics" && passed || failed "HTTP $code; check --monitoring_config_file"
fi

step "gm_nifti uses the GPU"
if idle=$(gpu_percent); then
    mkdir "$work/images"
    for k in {1..16}; do cp "$image" "$work/images/$k-$(basename "$image")"; done
    scgm-client segment "$work/images" --server "$GRPC" --output "$work/masks" >"$work/log" 2>&1 & load=$!
    busy=0
    while kill -0 $load 2>/dev/null; do
        now=$(gpu_percent) || now=0
        ((now > busy)) && busy=$now
        sleep 0.1
    done
    wait $load || failed "$(cat "$work/log")"
    # Other programs may use the GPU as well.
    ((busy >= idle + 3)) || failed "it was busy to $idle % before 16 images and to $busy % at most during them"
    echo "ok (busy to $busy % while it works, $idle % before)"
else
    echo "not known (nvidia-smi does not answer; set NVIDIA_SMI)"
fi
