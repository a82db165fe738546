#!/bin/sh
# Queues one task for each letter with which names in a folder begin; `examples/queue-from-sh.yaml` runs it.
set -eu

folder=$1
lines=
for letter in a b c d e f g h i j k l m n o p q r s t u v w x y z; do
    set -- "$folder/$letter"*
    if [ -e "$1" ]; then
        line="{\"id\": \"letter-$letter\", \"command\": [\"sh\", \"$(dirname "$0")/count.sh\", \"$folder\", \"$letter\"]}"
        lines="$lines$line
"
    fi
done
# One printf for all lines, so that they stay together when several processes of a task append at once.
printf '%s' "$lines" >>"$AIR_QUEUE"
