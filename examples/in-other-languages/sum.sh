#!/bin/sh
# Adds up the results of the tasks before it. $AIR_INPUTS is one JSON object, {task id: result}.
set -eu

# Sufficient for the results of this example; in general, use a JSON parser such as jq.
total=$(grep -o '"count": *[0-9]*' "$AIR_INPUTS" | awk '{ total += $NF } END { print total + 0 }')
echo "total: $total"
echo "$total" >"$AIR_RESULT"
