#!/bin/sh
# The own model and the own function learn exclusive or: four rows, each within 0.05 of the truth.
# usage: check_custom_module.sh PROGRAM
set -eu
output=$("$1")
echo "$output" | awk '/^[01] [01]/ { rows++; error = $4 - ($1 != $2); if ($3 != ($1 != $2) || error > 0.05 || error < -0.05) bad++ }
                      END { exit !(rows == 4 && !bad) }' || { echo "$output"; exit 1; }
