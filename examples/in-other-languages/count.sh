#!/bin/sh
# Leaves as its result how many names in a folder begin with a letter.
set -eu

folder=$1 letter=$2
set -- "$folder/$letter"*
echo "$letter: $#"
printf '{"letter": "%s", "count": %s}\n' "$letter" "$#" >"$AIR_RESULT"
