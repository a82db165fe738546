#!/bin/sh
# Queues one task per initial letter of the names in a folder; `examples/queue-from-sh.yaml` runs it.
set -eu

folder=$1
lines=
for letter in a b c d e f g h i j k l m n o p q r s t u v w x y z; do
    set -- "$folder/$letter"*
    if [ -e "$1" ]; then
        command="[\"sh\", \"$(dirname "$0")/count.sh\", \"$folder\", \"$letter\"]"
        line="{\"id\": \"letter-$letter\", \"command\": $command}"
        lines="$lines$line
"
    fi
done
# One printf for all lines: lines of concurrent processes of a task do not interleave.
printf '%s' "$lines" >>"$AIR_QUEUE"
