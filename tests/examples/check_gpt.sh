#!/bin/sh
# A text of one sentence over and over is learnt, and its sentence goes on behind the prompt, letter for letter.
# usage: check_gpt.sh PROGRAM
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do printf 'the quick brown fox jumps over the lazy dog. '; done >"$folder/text"
output=$("$1" "$folder/text" 100 'jumps over the lazy dog. the quick brown fox ' 2>"$folder/errors") || { cat "$folder/errors"; exit 1; }
case $output in
'jumps over the lazy dog. the quick brown fox jumps over the lazy dog. the quick brown fox'*) ;;
*) echo "$output"; exit 1 ;;
esac
if "$1" /dev/null 2>"$folder/errors"; then exit 1; fi
grep -q usage "$folder/errors"
