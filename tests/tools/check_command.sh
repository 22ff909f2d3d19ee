#!/bin/bash
# The command cresset as its users meet it: what it prints, what it leaves, how it refuses.
# usage: check_command.sh COMMAND MAKE_PROGRAMS
set -u
command=$1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder" || exit 1
"$2" . || exit 1
fail() { echo "$1"; echo "--- stdout"; head -c 3000 out; echo "--- stderr"; head -c 3000 err; exit 1; }
# Runs it and holds its exit status against the expected one.
expect() {
    local wanted=$1 status=0
    shift
    "$command" "$@" >out 2>err || status=$?
    [ $status -eq "$wanted" ] || fail "cresset $*: exit status $status, not $wanted"
}
prints() { grep -qE -- "$1" out || fail "no \"$1\" in the output"; }
# $1 is a Python expression about `j`, the JSON on standard output, or in the file $2.
json() { python3 -c "import json; j = json.load(open('${2:-out}')); assert $1, j" || fail "JSON: not $1"; }
# Bad usage: status 2, nothing on stdout, one line on stderr that names what to do.
refuses() {
    local part=$1
    shift
    expect 2 "$@"
    [ ! -s out ] && [ "$(wc -l <err)" -eq 1 ] || fail "cresset $*: not one line on stderr"
    grep -qF -- "$part" err && grep -q -- "--help" err || fail "cresset $*: no \"$part\" or no --help in the message"
}
# A failure: status 1, the library's error.
fails() {
    local part=$1
    shift
    expect 1 "$@"
    grep -qF -- "$part" err || fail "cresset $*: no \"$part\" in the message"
    [ "$(wc -l <err)" -le 2 ] || fail "cresset $*: more than an error and its calls"
}

# ---------------------------------------------------------------- help
expect 0 --help
cp out commands
for name in info inspect run bench compile convert quantize prepare; do
    grep -q "^  $name " commands || fail "cresset --help does not name $name"
    "$command" $name --help >help 2>err || fail "cresset $name --help: exit status $?"
    grep -q "^usage: cresset $name" help && grep -q "^examples:" help || fail "cresset $name --help teaches nothing"
    [ "$(awk 'length > 120' help | wc -l)" -eq 0 ] || fail "cresset $name --help has lines of more than 120 columns"
    grep -oE -- '^  --[a-z-]+' help | while read -r option; do # each option that help names is known
        "$command" $name "$option" >out 2>err </dev/null
        ! grep -q "cannot read" err || fail "cresset $name does not know $option"
    done
done
expect 0 --version
prints '^cresset [0-9]+\.[0-9]+\.[0-9]+$'

# ---------------------------------------------------------------- info
expect 0 info
prints '^compiler +[a-z]+ [0-9]'
prints '^instruction set in use '
prints '^devices +cpu'
CR_CC=none CR_CACHE_DIR=/some/place expect 0 info --json
json 'j["kernel cache"] == "/some/place" and "CR_CC=none" in j["kernel compiler"]'
OMP_NUM_THREADS=3 expect 0 info --json
json 'j["threads in use"] == 3'

# ---------------------------------------------------------------- compile
expect 0 compile classifier.safetensors -o classifier.c --name classify --size batch=2
[ ! -s out ] && [ ! -s err ] || fail "cresset compile says something where all is well"
cat >classify_zeros.c <<'END'
#define classify_DECLARATIONS_ONLY
#include "classifier.c"
#include <stdio.h>
int main(void) {
    static classify_context context;
    static float image[2 * 3 * 16 * 16], scores[2 * 10];
    if (classify_init(&context) || classify_run(&context, image, scores)) return 1;
    for (int i = 0; i < 20; i++)
        printf("%.5f\n", (double)scores[i]);
    return scores[0] != scores[0];
}
END
if command -v cc >/dev/null; then
    cc -std=c99 -Wall -Wextra -Werror -pedantic -O1 classifier.c classify_zeros.c -o classify_zeros -lm >out 2>err &&
        ./classify_zeros >out || fail "the compiled program does not compile or run"
    [ "$(sort -u out | wc -l)" -gt 5 ] && [ "$(wc -l <out)" -eq 20 ] || fail "the compiled program gives no scores"
fi
cp classifier.c before.c
expect 0 compile classifier.safetensors --output classifier.c --name classify --size batch=2
cmp -s classifier.c before.c || fail "the same program gives another text"
expect 0 compile classifier.safetensors -o beside.c --weights file
[ -s beside.weights ] && [ "$(stat -c %s beside.c)" -lt "$(stat -c %s classifier.c)" ] || fail "no file of weights"
refuses "-o FILE.c is missing" compile classifier.safetensors
refuses "PROGRAM is missing" compile -o a.c
refuses "--weights is" compile classifier.safetensors -o a.c --weights none
refuses 'there is no "time"' compile classifier.safetensors -o a.c --size time=3
fails "not a C identifier" compile classifier.safetensors -o a.c --name 2go
fails "nowhere" compile classifier.safetensors -o nowhere/a.c
fails "nothing.safetensors" compile nothing.safetensors -o a.c

# ---------------------------------------------------------------- convert, and ONNX models in place of programs
if "$command" convert classifier.safetensors classifier.onnx 2>err; then
    expect 0 convert classifier.onnx again.safetensors
    expect 0 run classifier.safetensors --input image.npy
    cp out plain
    for model in classifier.onnx again.safetensors; do
        expect 0 run $model --input image.npy
        python3 - out plain <<'PYTHON' || fail "$model gives something else"
import json, sys
a, b = (json.load(open(name))["logits"]["values"] for name in sys.argv[1:])
sys.exit(not all(abs(x - y) < 1e-5 for p, q in zip(a, b) for x, y in zip(p, q)))
PYTHON
    done
    expect 0 inspect classifier.onnx --size batch=8 --gflops 100 --gbps 10
    prints '^input +image +f32\[batch,3,16,16\]'
    expect 0 bench classifier.onnx --runs 3 --size batch=2
    expect 0 convert classifier.onnx newest.onnx --opset 23 --external-data
    [ -s newest.onnx.data ] || fail "no external data"
    expect 0 run newest.onnx --input image.npy
    refuses "TO is missing" convert classifier.onnx
    refuses "ends in .onnx" convert classifier.safetensors other.safetensors
    refuses "13" convert classifier.safetensors a.onnx --opset 12
    fails "nothing.onnx" convert nothing.onnx a.safetensors
    head -c 700 classifier.onnx >half.onnx
    fails "damaged" convert half.onnx a.safetensors
elif ! grep -q "without ONNX" err; then
    fail "convert: $(cat err)"
fi

# ---------------------------------------------------------------- prepare
expect 0 prepare classifier.safetensors -o ready.safetensors --size batch=1 --size batch=3
prints '^prepared: [0-9.]+ MB, beside [0-9.]+ MB of weights, for (avx512|avx2|baseline)$'
[ "$(stat -c %s ready.safetensors)" -gt "$(stat -c %s classifier.safetensors)" ] || fail "a prepared file is not larger"
for batch in 1 2; do # one that it was prepared for, and another
    expect 0 run classifier.safetensors --input ones --size batch=$batch --output plain.npy
    expect 0 run ready.safetensors --input ones --size batch=$batch --output ready.npy
    cmp plain.npy ready.npy || fail "a prepared program gives other bits"
done
refuses "-o FILE is missing" prepare classifier.safetensors
refuses "hold no packed weights" prepare classifier.safetensors -o ready.onnx
fails "the graph's names are: batch" prepare classifier.safetensors -o wrong.safetensors --size length=1
[ ! -e wrong.safetensors ] || fail "a program is left where preparing failed"

# ---------------------------------------------------------------- quantize
mkdir -p pictures/within
for i in 1 2 3; do cp picture.png pictures/within/$i.png; done
expect 0 quantize classifier.safetensors -o int8.safetensors --data pictures --mean 0.5 --std 0.5,0.25,0.5
prints '^3 samples of pictures$'
prints '^ +[0-9.]+% +[0-9.]+%  convolution 0$'
prints '^ +[0-9.]+% +[0-9.]+%  linear 5$'
prints 'in the same place in [0-9]+ of 3 rows'
expect 0 run int8.safetensors --input image.npy
expect 0 inspect int8.safetensors
prints 'i8 +\[10,512\] +5120 bytes'
expect 0 quantize classifier.safetensors -o kept.safetensors --data image.npy --keep 5 --per-tensor --method percentile --json
json '[l["quantized"] for l in j["layers"]] == [True, False] and j["rows"] == 2'
json '0 < j["layers"][0]["weight_error"] < 0.02 and j["output_error"] < 0.05'
if "$command" quantize classifier.safetensors -o int8.onnx --data image.npy --no-report >out 2>err; then
    [ ! -s out ] || fail "--no-report reports"
    expect 0 run int8.onnx --input image.npy
    fails "quantised already" quantize int8.onnx -o twice.onnx --data image.npy
elif ! grep -q "without ONNX" err; then
    fail "quantize: $(cat err)"
fi
mkdir -p nothing
expect 0 quantize classifier.safetensors -o bf16.safetensors --weights bf16 --data pictures --mean 0.5 --std 0.5
prints '^parameters and constants: [0-9.]+ MB, were [0-9.]+ MB$'
prints '^the greatest value is in the same place in '
[ "$(stat -c %s bf16.safetensors)" -lt "$(($(stat -c %s classifier.safetensors) * 3 / 4))" ] || fail "bf16 is not smaller"
expect 0 quantize classifier.safetensors -o i8.safetensors --weights i8 --keep 5
expect 0 inspect i8.safetensors
expect 0 run i8.safetensors --input image.npy
refuses "--weights is" quantize classifier.safetensors -o a.safetensors --weights f16
refuses "-o OUTPUT is missing" quantize classifier.safetensors --data pictures
refuses "--data PATH is missing" quantize classifier.safetensors -o a.safetensors
refuses "--method is" quantize classifier.safetensors -o a.safetensors --data pictures --method best
refuses "--percentile" quantize classifier.safetensors -o a.safetensors --data pictures --percentile 20
fails "nowhere" quantize classifier.safetensors -o a.safetensors --data nowhere
fails "nothing" quantize classifier.safetensors -o a.safetensors --data nothing
fails "no layer to quantise" quantize classifier.safetensors -o a.safetensors --data pictures --keep 0 --keep 5
fails "for a picture of 3 channels" quantize classifier.safetensors -o a.safetensors --data pictures --mean 1,2
fails "2 inputs" quantize lookup.safetensors -o a.safetensors --data image.npy
fails "4 dims" quantize generator.safetensors -o a.safetensors --data image.npy
fails "give a .npy file" quantize generator.safetensors -o a.safetensors --data pictures
fails "change its state" quantize counter.safetensors -o a.safetensors --data tokens.npy
[ ! -e a.safetensors ] || fail "a failed quantize leaves a file"

# ---------------------------------------------------------------- inspect
expect 0 inspect classifier.safetensors --size batch=8 --gflops 100 --gbps 10
prints '^input +image +f32\[batch,3,16,16\]'
prints '^size +batch +8$'
prints 'parameter 5.weight +f32 +\[10,512\] +20480 bytes'
prints '5370 numbers in parameters'
prints 'convolution.* f32\[8,16,16,8\] ; 0$'
prints '100.0 GFLOP/s and 10.0 GB/s \(as told'
expect 0 inspect classifier.safetensors --size batch=8 --json --gflops 100 --gbps 10
json 'j["sizes"] == {"batch": 8} and j["state"][0] == {"name": "0.weight", "kind": "parameter", "dtype": "f32", "shape": [8, 3, 3, 3], "bytes": 864}'
json 'j["memory"]["planned_bytes"] >= j["memory"]["bound_bytes"] > 0 and j["memory"]["state_bytes"] == 21544'
json 'abs(sum(n["flops"] for n in j["nodes"]) - j["flops"]) < 1'
# convolution, bias and ReLU; windows; linear and bias
json 'j["flops"] == 8 * (2 * 27 * 8 * 256 + 2 * 8 * 256) + 8 * 8 * 64 * 4 + 8 * (2 * 512 * 10 + 10)'
json 'all(abs(n["roofline_us"] - max(n["flops"] / 100e3, n["bytes"] / 10e3)) < 1e-6 for n in j["nodes"])'
expect 0 inspect classifier.safetensors --graph
prints '^%9 f32\[batch,8,16,16\] = convolution\(%8, %0, %1\)'
expect 0 inspect classifier.safetensors --optimized
prints ' = fused_channels_last_convolution\('
expect 0 inspect classifier.safetensors --dot
prints '^digraph '
expect 0 inspect classifier.safetensors --dot --optimized
prints 'fused_channels_last_convolution'
expect 0 inspect lookup.safetensors

# ---------------------------------------------------------------- run
expect 0 run classifier.safetensors --input image.npy
json 'j["logits"]["shape"] == [2, 10] and len(j["logits"]["values"]) == 2 and j["logits"]["values"][0] == j["logits"]["values"][1]'
cp out single
expect 0 run classifier.safetensors --input image=double.npy # NumPy's f64 becomes what the program takes
cmp -s out single || fail "f64 and f32 give other results"
expect 0 run classifier.safetensors --input picture.png --top 3
json 'len(j["logits"]["top"]) == 1 and [t["value"] for t in j["logits"]["top"][0]] == sorted((t["value"] for t in j["logits"]["top"][0]), reverse=True)'
expect 0 run classifier.safetensors --input picture.png --mean 0.1,0.2,0.3 --std 0.5 --output y.json
json 'j["shape"] == [1, 10]' y.json
expect 0 run lookup.safetensors --input tokens=tokens.npy --input scale=ones
json 'j["words"]["values"] == [[36, 37, 38, 39], [0, 1, 2, 3], [16, 17, 18, 19]] and j["sum"]["values"] == 226'
expect 0 run lookup.safetensors --input tokens=tokens32.npy --input scale=ones --output words=w.npy --output sum=s.json
json 'j["values"] == 226' s.json
[ "$(head -c 6 w.npy | tail -c 5)" = NUMPY ] || fail "w.npy is no array"
expect 0 run lookup.safetensors --input tokens=zeros --size time=5 --input scale=ones
json 'j["words"]["shape"] == [5, 4]'
expect 0 run generator.safetensors --input randn --size batch=6 --output faces.png --range=-1,1 --seed 3
[ "$(head -c 4 faces.png | tail -c 3)" = PNG ] || fail "faces.png is no picture"
cp faces.png first.png
expect 0 run generator.safetensors --input randn --size batch=6 --output faces.png --range=-1,1 --seed 3
cmp -s faces.png first.png || fail "one seed gives two pictures"
expect 0 run generator.safetensors --input randn --size batch=6 --output faces.png --range=-1,1 --seed 4
! cmp -s faces.png first.png || fail "two seeds give one picture"
expect 0 run generator.safetensors --input zeros --size batch=6 # 1152 numbers
json '"values" not in j["output0"] and -1 <= j["output0"]["least"] <= j["output0"]["mean"] <= j["output0"]["greatest"] <= 1'

# ---------------------------------------------------------------- bench
expect 0 bench classifier.safetensors --runs 9 --size batch=4 --profile --trace trace.json
prints '^latency +min .* p50 .* p90 .* p99 .* max .*ms$'
prints '^throughput .*\(4 in each run\)$'
prints '^measured +9 runs in '
prints '^ *[0-9.]+% .*convolution'
json 'len([e for e in j["traceEvents"] if e["name"].startswith("run ")]) == 20' trace.json
expect 0 bench classifier.safetensors --runs 5 --clients 3 --threads 1 --json
json 'j["runs"] == 15 and j["clients"] == 3 and j["threads"] == 1'
json 'j["latency_ms"]["min"] <= j["latency_ms"]["p50"] <= j["latency_ms"]["p90"] <= j["latency_ms"]["p99"] <= j["latency_ms"]["max"]'
expect 0 bench lookup.safetensors --seconds 0.05 --warm-up 0 --json --profile
json 'j["runs"] >= 1 and j["seconds"] >= 0.05 and abs(sum(n["share"] for n in j["nodes"]) - 1) < 1e-6'
expect 0 bench counter.safetensors --runs 2

# ---------------------------------------------------------------- bad usage
refuses "a command is missing"
refuses "there is no command frobnicate" frobnicate
for name in info inspect run bench compile convert quantize prepare; do
    refuses "cannot read --nothing" $name --nothing
    [ $name = info ] || [ $name = convert ] || refuses "PROGRAM is missing" $name
done
refuses 'no place for "extra"' info extra
refuses 'no place for "extra"' inspect classifier.safetensors extra
refuses "--gflops needs a value" inspect classifier.safetensors --gflops
refuses "--gflops is \"many\"" inspect classifier.safetensors --gflops many
refuses "--gbps is \"-1\"" inspect classifier.safetensors --gbps -1
refuses "--json does not go with" inspect classifier.safetensors --json --dot
refuses "--size is \"batch\"" inspect classifier.safetensors --size batch
refuses "--size is \"batch=0\"" inspect classifier.safetensors --size batch=0
refuses 'there is no "width"; the sizes that may differ are batch' bench classifier.safetensors --size width=8
refuses "all sizes of this program are fixed" bench counter.safetensors --size batch=8
refuses "--input image=FILE is missing" run classifier.safetensors
refuses "a NAME among: tokens, scale" run lookup.safetensors --input tokens.npy
refuses "a NAME among: image" run classifier.safetensors --input picture=picture.png
refuses "--input image is given twice" run classifier.safetensors --input picture.png --input image.npy
refuses "must end in .npy, .json, .png or .jpg" run classifier.safetensors --input picture.png --output y.txt
refuses "a NAME among: words, sum" run lookup.safetensors --input tokens=tokens.npy --input scale=ones --output y.npy
refuses "--mean is \"0.5,x\"" run classifier.safetensors --input picture.png --mean 0.5,x
refuses "--std is \"0\"" run classifier.safetensors --input picture.png --std 0
refuses "--range is \"1\"" run generator.safetensors --input randn --range 1
refuses "--top is \"0\"" run classifier.safetensors --input picture.png --top 0
refuses "--runs is \"2x\"" bench classifier.safetensors --runs 2x
refuses "--seconds is \"0\"" bench classifier.safetensors --seconds 0
refuses "--clients is \"1000\"" bench classifier.safetensors --clients 1000
refuses "updates its state" bench counter.safetensors --clients 2

# ---------------------------------------------------------------- failures
fails "cannot open missing.safetensors" inspect missing.safetensors
fails "it must be f32[batch,3,16,16]" run classifier.safetensors --input tokens.npy
fails "2 numbers in --mean" run classifier.safetensors --input picture.png --mean 1,2
fails "random numbers are floating" run lookup.safetensors --input tokens=randn --input scale=ones
fails "missing.npy" run classifier.safetensors --input missing.npy
fails "nowhere" run classifier.safetensors --input image.npy --output nowhere/y.npy
fails "nowhere" run classifier.safetensors --input image.npy --output nowhere/y.json
fails "nowhere" bench classifier.safetensors --runs 1 --trace nowhere/trace.json
# Hostile files: nothing but an error, whatever is given as program, array or picture.
head -c 200 classifier.safetensors >cut.safetensors
sed 's/convolution/konvolution/' classifier.safetensors >unknown.safetensors
head -c 100 image.npy >cut.npy
head -c 60 picture.png >cut.png
: >empty
for file in cut.safetensors unknown.safetensors picture.png empty . /dev/null; do
    for name in inspect bench; do fails "" $name $file; done
    fails "" run $file --input image.npy
done
for file in cut.npy empty . picture.safetensors; do fails "" run classifier.safetensors --input $file; done
fails "" run classifier.safetensors --input cut.png

# ---------------------------------------------------------------- standard streams
for name in "info" "--help" "inspect classifier.safetensors" "run classifier.safetensors --input image.npy" \
    "bench classifier.safetensors --runs 1"; do
    : >out
    "$command" $name >&- 2>err
    [ $? -eq 1 ] && grep -q "cannot write to standard output" err || fail "cresset $name with closed stdout"
    if [ -w /dev/full ]; then
        "$command" $name >/dev/full 2>err
        [ $? -eq 1 ] && grep -q "cannot write to standard output" err || fail "cresset $name on a full device"
    fi
    "$command" $name 2>err | true
    [ "${PIPESTATUS[0]}" -eq 0 ] && [ ! -s err ] || fail "cresset $name | true is not quiet"
done
# A closed stdout does not become the file that is written.
"$command" run classifier.safetensors --input image.npy --output closed.npy >&- 2>&- <&- || fail "no run without streams"
[ "$(head -c 6 closed.npy | tail -c 5)" = NUMPY ] || fail "closed.npy is no array"
echo "all is as it should be"
