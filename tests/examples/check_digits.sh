#!/bin/sh
# The classifier reads digits in fonts that it never saw after a short run, takes MNIST's files, and refuses bad usage.
# usage: check_digits.sh PROGRAM
set -eu
program=$1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
fail() { echo "$1"; cat "$folder/log"; exit 1; }
# Runs the program and holds its exit status against the expected one.
expect() {
    wanted=$1 status=0
    shift
    "$program" --out "$folder/model.safetensors" "$@" >"$folder/log" 2>&1 || status=$?
    test $status -eq "$wanted" || fail "digits $*: exit status $status, not $wanted"
}

expect 0 --help
grep -q -- '--data FOLDER' "$folder/log" || fail "no help"

# MNIST's format: 128 images of 28x28, all black and of class 0.
mkdir "$folder/mnist"
for part in train t10k; do
    { printf '\000\000\010\003\000\000\000\200\000\000\000\034\000\000\000\034'; head -c 100352 /dev/zero; } >"$folder/mnist/$part-images-idx3-ubyte"
    { printf '\000\000\010\001\000\000\000\200'; head -c 128 /dev/zero; } >"$folder/mnist/$part-labels-idx1-ubyte"
done
expect 0 --data "$folder/mnist" --epochs 12 --batch 32
grep -q '^epoch 12: 100.0 % of held-out' "$folder/log" || fail "does not learn from MNIST's files"
test -s "$folder/model.safetensors" || fail "no model"

for usage in "--epochs 0" "--epochs many" "--batch 64x" "--batch=" "--seed -1" "--data" "--nothing" "--device tpu" "extra"; do
    expect 2 $usage
    test "$(wc -l <"$folder/log")" -eq 1 || fail "digits $usage: not one line"
done
expect 1 --data "$folder/missing"
expect 1 --data "$folder/mnist" --epochs 1 --out "$folder/missing/model.safetensors"

# Guessing gets 10 % right, this short run about 94 %, the default more than 98 %.
status=0
"$program" --out "$folder/model.safetensors" --epochs 3 --count 6000 >"$folder/log" 2>&1 || status=$?
test $status -eq 0 || { grep -qi font "$folder/log" && exit 77; fail "digits: exit status $status"; }
share=$(sed -n 's/^epoch 3: \([0-9]*\).*/\1/p' "$folder/log")
test "$share" -ge 90 || fail "only $share % of the held-out digits are right"
