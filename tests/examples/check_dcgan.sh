#!/bin/sh
# A few steps of the demo: leaves its files; stopped and resumed it ends in the same bits; bad usage is refused.
# usage: check_dcgan.sh PROGRAM
set -eu
program=$1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
run() { "$program" --features 2 --latent 4 --batch 256 --epochs 2 "$@" >"$folder/log" 2>&1; }
# Without the emoji font there is nothing to learn from.
run --steps 4 --out "$folder/whole" || { cat "$folder/log"; grep -qi font "$folder/log" && exit 77; exit 1; }

for name in samples-001.png samples.gif losses.png checkpoint.safetensors; do
    test -s "$folder/whole/$name" || { echo "no $name"; exit 1; }
done
test "$(head -c 4 "$folder/whole/samples-001.png" | tail -c 3)" = PNG
test "$(head -c 3 "$folder/whole/samples.gif")" = GIF
ls "$folder/whole" | grep -q '^events.out.tfevents'

# The checkpoint holds the losses of every step beside weights and optimizers.
run --steps 2 --out "$folder/parts"
! cmp -s "$folder/whole/checkpoint.safetensors" "$folder/parts/checkpoint.safetensors"
run --steps 4 --out "$folder/parts" --resume
cmp "$folder/whole/checkpoint.safetensors" "$folder/parts/checkpoint.safetensors"

status=0
"$program" --image-size 33 2>"$folder/log" || status=$?
test $status -eq 2 && test "$(wc -l <"$folder/log")" -eq 1
