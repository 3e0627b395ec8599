# Ends what works in the folder of a run and removes the folder. $1: how the folder's path begins.
in_folder() {
    ls -ld /proc/[0-9]*/cwd 2>/dev/null | sed -n "s|.* /proc/\([0-9]*\)/cwd -> $folder\(/.*\)\{0,1\}\$|\1|p"
}

for folder in "$1"*; do
    [ -d "$folder" ] || continue
    tries=0
    while processes=$(in_folder) && [ -n "$processes" ] && [ $tries -lt 50 ]; do
        # In order at first; what has not heard after two seconds is ended.
        [ $tries -lt 10 ] && signal=TERM || signal=KILL
        kill -s $signal $processes 2>/dev/null
        tries=$((tries + 1))
        sleep 0.2
    done
    rm -rf -- "$folder" || exit 1
done
