#!/bin/sh
# Runs the stages of a CI job in its machine, as the job's account. It takes calls from a FIFO of the host's, `run NAME`, `term NAME`,
# `end NAME`. All FIFOs are in a directory that is read-only here: nothing in this machine can put another file in the place of one. How a
# stage ends its inner script writes into the record.
umask 077
d=$(cat /etc/nunbird-job/directory) && cd "$d" || exit 75
m=${d%/*}/machine r=/run/nunbird-job

# Runs one stage: its streams are FIFOs of that name.
stage() {
  exec 3<&- 4>"$m/$1/status"
  setsid /bin/sh -c 'echo "$$" >"$1" && . ./inner' sh "$r/$1" <"$m/$1/in" >"$m/$1/out" 2>"$m/$1/err" 4>&-
  echo "ended $?" >&4
}

group() {
  cat "$r/$1" 2>/dev/null
}

exec 3<>"$m/calls" || exit 75
while read -r verb name <&3; do
  case $name in '' | *[!0-9a-z]*) continue ;; esac
  case $verb in
    run) stage "$name" & ;;
    term) g=$(group "$name") && kill -s TERM -- "-$g" && kill -s CONT -- "-$g" ;;
    # All that carries the job's mark, wherever it went.
    end)
      for one in "$r"/s*; do
        g=$(cat "$one") && kill -s KILL -- "-$g"
      done
      for p in $(grep -lsz '^NUNBIRD_DECISION_ID=' /proc/[0-9]*/environ); do
        p=${p#/proc/}
        kill -s KILL "${p%/environ}"
      done
      rm -f "$r"/s*
      # Opened for both, so that no open waits for a host that has gone.
      echo ended 1<>"$m/$name"
      ;;
  esac 2>/dev/null
done
