#!/bin/sh
# Compiler launcher: runs clang in place of the compiler of the rest, for libFuzzer is clang's. OpenMP's runtime stays the other's.
shift
for argument; do
    shift
    [ "$argument" = -fopenmp ] || set -- "$@" "$argument"
done
exec clang "$@" -Wno-unknown-warning-option
