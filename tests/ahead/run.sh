#!/bin/sh
# run.sh WRITER FOLDER MINIMUM COMPILER "EMULATOR" SAMPLES…: writes programs, compiles them without a warning, runs them.
set -eu
writer=$1 folder=$2 minimum=$3 compiler=$4 emulator=$5
shift 5
for tool in "$compiler" ${emulator%% *}; do
    if ! command -v "$tool" >/dev/null; then
        echo "skipped: there is no $tool (scripts/setup names the packages)"
        exit 77
    fi
done
rm -rf "$folder"
mkdir -p "$folder"
"$writer" "$folder" "$@"
cp "$(dirname "$0")/check.h" "$folder"
cd "$folder"
warnings="-std=c99 -Wall -Wextra -Werror -pedantic"
ls program*.c | xargs -P 2 -n 6 "$compiler" $warnings -O1 -c
"$compiler" $warnings -O1 -c cases.c
"$compiler" *.o -o cases -lm
exec $emulator ./cases data "$minimum"
