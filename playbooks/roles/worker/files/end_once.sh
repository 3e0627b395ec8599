# Ends what works in the folder of a run and removes the folder. $1: how the folder's path begins; $2: the number of the
# account that made it. Names of folders and processes are compared as text and are never part of a program: others may
# make some beside it. Folders of other accounts are left alone.
in_folder() {
    for process in /proc/[0-9]*; do
        # The dot keeps a line's end at the end of the name.
        at=$(readlink -n "$process/cwd" 2>/dev/null && printf .) || continue
        case $at in
            "$folder." | "$folder"/*) printf '%s\n' "${process#/proc/}" ;;
        esac
    done
}

for folder in "$1"*; do
    [ -d "$folder" ] && [ "$(stat -c %u -- "$folder")" = "$2" ] || continue
    tries=0
    while processes=$(in_folder) && [ -n "$processes" ] && [ $tries -lt 50 ]; do
        # In order at first; what has not heard after ten times, in two seconds or more, is ended.
        [ $tries -lt 10 ] && signal=TERM || signal=KILL
        kill -s $signal $processes 2>/dev/null
        tries=$((tries + 1))
        sleep 0.2
    done
    rm -rf -- "$folder" || exit 1
done
