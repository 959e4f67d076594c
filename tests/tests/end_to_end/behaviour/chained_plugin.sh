#!/bin/sh
# A write policy as operators have them: it refuses what contains the word "spam", and whatever it is asked about twice.
seen=
while IFS= read -r line; do
    id=${line##*'"id":"'}
    id=${id%%'"'*}
    action='"action":"accept"'
    case "$seen " in *" $id "*) action='"action":"reject","msg":"blocked: asked twice"' ;; esac
    case $line in *spam*) action='"action":"reject","msg":"blocked: no spam"' ;; esac
    case $line in *hush*) action='"action":"shadowReject"' ;; esac
    seen="$seen $id"
    echo 'a stray print, which strfry skips too'
    echo "{\"id\":\"$id\",$action}"
done
