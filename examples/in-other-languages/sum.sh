#!/bin/sh
# Adds up the counts that the tasks before it have left. $AIR_INPUTS is one JSON object, {task id: result}.
set -eu

# Good enough for what this example's own tasks have written; elsewhere use a JSON reader such as jq.
total=$(grep -o '"count": *[0-9]*' "$AIR_INPUTS" | awk '{ total += $NF } END { print total + 0 }')
echo "total: $total"
echo "$total" >"$AIR_RESULT"
