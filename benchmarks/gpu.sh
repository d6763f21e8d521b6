#!/bin/bash
# What can only be learned on a GPU, in parts that take ten minutes at most, on a bare machine with one:
#
#     benchmarks/gpu.sh                  # all parts: tests, steps, equal, loader, cifar
#     benchmarks/gpu.sh steps loader     # some
#     DEVICE=cpu benchmarks/gpu.sh       # the same without a GPU, very small: shows only that it runs
#
# It needs PyTorch with CUDA and what `pip install -e '.[test]'` brings; timm, where it is there, is compared with, and
# CIFAR-10 is trained on where VITRAIL_DATA holds it. Each part ends with a short table and leaves what it printed in
# $OUT/PART.txt (OUT: build/gpu), a file for benchmarks/results/. A part that fails does not stop the others.
cd "$(dirname "$0")/.." || exit 2
export PYTHONPATH=$PWD PYTHONUNBUFFERED=1 DEVICE=${DEVICE:-cuda} OUT=${OUT:-build/gpu} PYTHON=${PYTHON:-python3}
export VITRAIL_OFFLINE=${VITRAIL_OFFLINE:-1} CUBLAS_WORKSPACE_CONFIG=:4096:8
parts=("$@")
[ ${#parts[@]} = 0 ] && parts=(tests steps equal loader cifar)
for part in "${parts[@]}"; do
  case $part in tests | steps | equal | loader | cifar) ;; *) echo "there is no part $part: tests, steps, equal, loader, cifar" && exit 2 ;; esac
done
mkdir -p "$OUT" || exit 2
failed=()
for part in "${parts[@]}"; do
  echo "== $part"
  case $part in
    tests)
      # without a GPU the shortest of them alone
      [ "$DEVICE" = cpu ] && few=(-k "mixing") || few=()
      VITRAIL_TEST_DEVICE=$DEVICE timeout 600 "$PYTHON" -m pytest -m cuda -p no:cacheprovider tests/gpu "${few[@]}" ;;
    *)
      timeout 600 "$PYTHON" benchmarks/gpu.py "$part" --device "$DEVICE" ;;
  esac 2>&1 | tee "$OUT/$part.txt"
  [ "${PIPESTATUS[0]}" = 0 ] || failed+=("$part")
done
[ ${#failed[@]} = 0 ] && echo "all parts ended well; what they said is in $OUT" && exit 0
echo "failed: ${failed[*]}; what they said is in $OUT"
exit 1
