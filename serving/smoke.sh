#!/usr/bin/env bash
# Does a running server do what it should? Exit code 0 if so.
#
#   smoke.sh IMAGE.nii.gz [MASK.nii.gz]
#
# MASK is what keras-scgm segment made of the image with the same weights. REST and GRPC name the server.
# Needs curl and scgm-client with gRPC.
set -euo pipefail
image=$1 expected=${2:-}
REST=${REST:-http://localhost:8501} GRPC=${GRPC:-grpc://localhost:8500}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

step() { printf '%-58s' "$1"; }
passed() { echo ok; }
failed() { echo "FAILED${1:+: $1}"; exit 1; }
voxels() { gunzip -c "$1" | tail -c +353; }
refusal() { curl -sS -o "$work/answer" -w '%{http_code}' -d "$1" "$REST/v1/models/gm_nifti:predict"; }

step "REST: gm_nifti is available"
scgm-client status --server "$REST" >"$work/log" 2>&1 && passed || failed "$(cat "$work/log")"
step "gRPC: gm_nifti is available"
scgm-client status --server "$GRPC" >"$work/log" 2>&1 && passed || failed "$(cat "$work/log")"
step "REST: gm_slices is available"
scgm-client status --server "$REST" --model gm_slices >"$work/log" 2>&1 && passed || failed "$(cat "$work/log")"

for way in REST GRPC; do
    step "$way: the image gives a mask"
    scgm-client segment "$image" --server "${!way}" --output "$work/$way" >"$work/log" 2>&1 && passed ||
        failed "$(cat "$work/log")"
done
step "both masks are the same"
cmp -s <(voxels "$work"/REST/*_gmseg.nii.gz) <(voxels "$work"/GRPC/*_gmseg.nii.gz) && passed || failed
if [[ $expected ]]; then
    step "the mask is the expected one"
    cmp -s <(voxels "$work"/REST/*_gmseg.nii.gz) <(voxels "$expected") && passed || failed
fi

step "text in place of an image is refused (400)"
[[ $(refusal '{"inputs": {"nifti_bytes": [{"b64": "bm8gaW1hZ2U="}]}}') == 400 ]] && passed || failed "$(cat "$work/answer")"
step "a request that is no JSON is refused (400)"
[[ $(refusal 'no json') == 400 ]] && passed || failed "$(cat "$work/answer")"
step "the server still answers"
scgm-client status --server "$REST" >"$work/log" 2>&1 && passed || failed "$(cat "$work/log")"

step "metrics"
if curl -fsS "$REST/monitoring/prometheus/metrics" 2>/dev/null | grep -q '^:tensorflow:serving:request_count'; then
    passed
else
    echo "none (the development stand-in has none)"
fi
