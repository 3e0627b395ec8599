# Runs a command that takes jobs from standard input and writes results, in a folder made for it, and removes the folder
# afterwards, whether somebody is still there to be told or not. $1: the folder; the rest: the command. The first line of
# standard input is the key of responders, the second the previous one; both may be empty.
umask 077
folder=$1
shift
cd "$folder" || exit 120
printf '%s\n' "$STREAMSWARM_ONCE_POLICY" > policy.yaml || exit 120
IFS= read -r key || exit 120
IFS= read -r previous || exit 120
if [ -n "$key$previous" ]; then
    printf '%s\n' "$key" ${previous:+"$previous"} > responder.key || exit 120
    set -- "$@" --responder-key-file "$folder/responder.key"
fi
unset STREAMSWARM_ONCE_POLICY key previous
TMPDIR=$folder PYTHONUTF8=1 PYTHONDONTWRITEBYTECODE=1 "$@"
code=$?
cd / && rm -rf -- "$folder"
exit $code
