#!/bin/sh
# Prints the processes that run under a user number; with the word `kill` it ends them first and waits for their end.
#   processes_of.sh UID [kill]
set -eu

running() {
    for status in /proc/[0-9]*/status; do
        # A process may end while it is looked at.
        while read -r key real _; do
            if [ "$key" = "State:" ] && [ "$real" = "Z" ]; then break; fi
            if [ "$key" = "Uid:" ]; then
                if [ "$real" = "$1" ]; then
                    pid=${status#/proc/}
                    echo "${pid%/status}"
                fi
                break
            fi
        done 2>/dev/null <"$status" || true
    done
}

if [ "${2:-}" = "kill" ]; then
    left=50
    while pids=$(running "$1") && [ -n "$pids" ] && [ "$left" -gt 0 ]; do
        for pid in $pids; do kill -KILL "$pid" 2>/dev/null || true; done
        left=$((left - 1))
        sleep 0.1
    done
    if [ -n "$pids" ]; then
        echo "these processes do not end: $pids" >&2
        exit 1
    fi
    exit 0
fi
running "$1"
