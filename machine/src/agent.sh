#!/bin/sh
# Runs the stages of a CI job in its machine, as the job's account. It takes calls from a FIFO in the job's control directory, which the
# host's outer script writes: `run NAME`, `term NAME`, `end NAME`. How a stage ends its inner script writes into the record.
umask 077
d=$(cat /etc/nunbird-job/directory) && cd "$d" || exit 75
rm -rf machine
mkdir machine && mkfifo machine/calls || exit 75

# Runs one stage: its streams are FIFOs of that name.
stage() {
  exec 3<&- 4>"machine/$1/status"
  setsid /bin/sh -c 'echo "$$" >"$1/group" && . ./inner' sh "machine/$1" <"machine/$1/in" >"machine/$1/out" 2>"machine/$1/err" 4>&-
  echo "ended $?" >&4
}

group() {
  cat "machine/$1/group" 2>/dev/null
}

exec 3<>machine/calls
while read -r verb name <&3; do
  case $name in '' | *[!0-9a-z]*) continue ;; esac
  case $verb in
    run) stage "$name" & ;;
    term) g=$(group "$name") && kill -s TERM -- "-$g" && kill -s CONT -- "-$g" ;;
    # All that carries the job's mark, wherever it went.
    end)
      for one in machine/s*/group; do
        g=$(cat "$one") && kill -s KILL -- "-$g"
      done
      for p in $(grep -lsz '^NUNBIRD_DECISION_ID=' /proc/[0-9]*/environ); do
        p=${p#/proc/}
        kill -s KILL "${p%/environ}"
      done
      rm -rf machine/s*
      ;;
  esac 2>/dev/null
done
