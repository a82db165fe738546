#!/bin/sh
# Sets the number of names in a folder that begin with a letter as its result.
set -eu

folder=$1 letter=$2
set -- "$folder/$letter"*
echo "$letter: $#"
printf '{"letter": "%s", "count": %s}\n' "$letter" "$#" >"$AIR_RESULT"
