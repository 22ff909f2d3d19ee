#!/bin/sh
# A few steps of the demo on images made here: its files, Ctrl-C and resumption to the bit, SageMaker's variables, a broken
# image, bad usage, a folder that cannot be written, a full disk.
# usage: check_dcgan.sh PROGRAM PRODUCTION
set -eu
program=$1
production=$2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
fail() { echo "$1"; cat "$folder/log"; exit 1; }
# Runs the program with small networks and holds its exit status against the expected one.
expect() {
    wanted=$1 status=0
    shift
    "$program" --features 2 --latent 4 --batch 4 "$@" >"$folder/log" 2>&1 || status=$?
    test $status -eq "$wanted" || fail "dcgan $*: exit status $status, not $wanted"
}
says() { grep -q -- "$1" "$folder/log" || fail "does not say: $1"; }
bytes() { for byte; do printf "\\$(printf %03o "$byte")"; done; }

# Sixteen BMP files of 40x36 pixels, each of one brightness.
mkdir "$folder/images"
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do
    {
        printf BM
        bytes 22 17 0 0 0 0 0 0 54 0 0 0 40 0 0 0 40 0 0 0 36 0 0 0 1 0 24 0 0 0 0 0 224 16 0 0
        head -c 4336 /dev/zero | tr '\000' "\\$(printf %03o $((i * 15)))"
    } >"$folder/images/$i.bmp"
done
images="--data $folder/images"

# What a run leaves, and that it gives back all memory.
expect 0 $images --out "$folder/whole" --epochs 30 --show 50
says 'done after 120 steps'
says ' 0 bytes at the end'
for name in samples-000050.png samples-000100.png samples-000120.png samples.gif losses.png generator.safetensors \
    checkpoint-0028.safetensors checkpoint-0029.safetensors checkpoint-0030.safetensors; do
    test -s "$folder/whole/$name" || fail "no $name"
done
for name in generator-program.safetensors samples-from-program.png; do
    test -s "$folder/whole/$name" || fail "no $name"
done
test ! -e "$folder/whole/checkpoint-0027.safetensors" || fail "old checkpoints are not removed"
test "$(head -c 4 "$folder/whole/samples-000050.png" | tail -c 3)" = PNG
test "$(head -c 3 "$folder/whole/samples.gif")" = GIF
ls "$folder/whole" | grep -q '^events.out.tfevents'

# The program draws without the model's source, and says what is wrong with its arguments.
"$production" "$folder/whole/generator-program.safetensors" "$folder/drawn.png" 7 >"$folder/log" 2>&1 || fail "production failed"
test "$(head -c 4 "$folder/drawn.png" | tail -c 3)" = PNG
! "$production" "$folder/whole/generator.safetensors" "$folder/no.png" >"$folder/log" 2>&1 || fail "production ran weights"
says 'holds tensors but no program'
test ! -e "$folder/no.png"

# Ctrl-C (not at once: in the middle of an epoch, after a picture); then --resume ends in the same bits.
"$program" --features 2 --latent 4 --batch 4 $images --out "$folder/parts" --epochs 30 --show 50 >"$folder/log" 2>&1 &
running=$!
while test ! -e "$folder/parts/samples-000050.png" && kill -0 $running 2>/dev/null; do sleep 0.01; done
kill -INT $running 2>/dev/null || fail "ended before it could be stopped"
wait $running || fail "Ctrl-C: exit status $?"
says 'stopped after .* --resume goes on'
says ' 0 bytes at the end'
test ! -e "$folder/parts/checkpoint-0030.safetensors" || fail "was not stopped"
expect 0 $images --out "$folder/parts" --epochs 30 --show 50 --resume
for name in checkpoint-0030.safetensors generator.safetensors samples-000100.png samples-000120.png samples.gif losses.png; do
    cmp "$folder/whole/$name" "$folder/parts/$name" || fail "$name is another one after resuming"
done

# 64x64, and stopping after a number of steps.
expect 0 $images --out "$folder/large" --image-size 64 --steps 2
says 'done after 2 steps'

# Emoji, where their font is installed: those that are drawn large are about half of all.
if test -r /usr/share/fonts/truetype/noto/NotoColorEmoji.ttf; then
    expect 0 --steps 1 --out "$folder/emoji"
    large=$(sed -n 's/^dcgan: \([0-9]*\) images.*/\1/p' "$folder/log")
    expect 0 --steps 1 --out "$folder/emoji" --all
    all=$(sed -n 's/^dcgan: \([0-9]*\) images.*/\1/p' "$folder/log")
    test "$large" -gt 1500 && test "$large" -lt "$((all * 2 / 3))" || fail "$large of $all emoji are chosen"
fi

# SageMaker's variables are the defaults; flags go before them.
mkdir "$folder/model"
(
    export SM_CHANNEL_TRAINING="$folder/images" SM_OUTPUT_DATA_DIR="$folder/sagemaker" SM_MODEL_DIR="$folder/model"
    export SM_HP_EPOCHS=3 SM_HP_BATCH=8 SM_HP_WORKERS=2 SM_HP_SEED=7
    expect 0 --batch 16
)
says 'done after 3 steps'
test -s "$folder/sagemaker/samples.gif" && test -s "$folder/model/generator.safetensors" || fail "no pictures or no model"
for variable in SM_HP_EPOCHS=ten SM_HP_WORKERS=-1 SM_HP_IMAGE_SIZE=48 SM_HP_SEED=1.5 SM_HP_BATCH=; do
    status=0
    env "$variable" "$program" >"$folder/log" 2>&1 || status=$?
    test $status -eq 2 && test "$(wc -l <"$folder/log")" -eq 1 || fail "$variable is not refused in one line"
done

# Bad usage: one line, exit status 2.
for usage in "--image-size 33" "--epochs 0" "--epochs=ten" "--batch 1" "--seed 1x" "--seed -1" "--workers 1000" "--data" \
    "--nothing" "--device tpu" "extra"; do
    expect 2 $usage
    test "$(wc -l <"$folder/log")" -eq 1 || fail "dcgan $usage: not one line"
done
expect 2 --image-size 48
says 48
expect 0 --help
says '--resume'

# Folders that cannot be read, written, resumed from, or that hold too little.
expect 1 --data "$folder/missing" --out "$folder/new"
says "$folder/missing"
expect 1 $images --out /dev/null/runs
says /dev/null/runs
expect 1 $images --out "$folder/new" --resume
says 'no checkpoint'
expect 1 $images --out "$folder/whole" --resume --features 3
says '--features'
expect 1 $images --out "$folder/new" --batch 32
says '16 images are fewer'

# A disk that is full when the first checkpoint is written: no half file stays.
(trap '' XFSZ; ulimit -f 24; expect 1 $images --out "$folder/full" --features 16 --epochs 2)
says 'File too large'
test -z "$(find "$folder/full" -name 'checkpoint*')" || fail "half a checkpoint"

# One broken image among them is named.
head -c 2000 "$folder/images/3.bmp" >"$folder/images/broken.bmp"
expect 1 $images --out "$folder/new" --epochs 2
says 'broken.bmp'
