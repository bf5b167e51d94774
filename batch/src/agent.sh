#!/bin/sh
# Nunbird's agent: runs one stage of a CI job once, inside the allocation, and reports how it ended.
# Plain POSIX: it needs nothing of Nunbird on the node.
d=@DIRECTORY@
job=@JOB@
hosts=@HOSTS@
umask 077
# Some schedulers give a job no environment at all.
PATH=${PATH:-/usr/bin:/bin}
@FORWARD@
# Whole or not at all: written beside, then renamed. What the shell can do itself starts no program: each takes a
# millisecond of the stage's time.
report() {
  printf '%s\nend @NONCE@\n' "$2" >"$d/$1.$$" && mv -f "$d/$1.$$" "$d/$1"
}

{ read -r host; } 2>/dev/null </proc/sys/kernel/hostname || host=$(uname -n)

# mkdir has one winner on every file system. A scheduler that starts the job again meets this.
if ! mkdir "$d/started" 2>/dev/null; then
  if [ -d "$d/started" ]; then
    echo "nunbird: this stage has begun once already; it is not run a second time" >&2
    report refused "job $job
host $host"
  else
    echo "nunbird: cannot make $d/started" >&2
  fi
  exit 75
fi

start=$(date +%s)
report began "job $job
host $host
hosts $hosts
start $start" || exit 75

# Signals of the scheduler are the script's to act on; the agent lives on to report it. A shell runs a trap only after
# its foreground command, so the exit code below is the script's whatever arrives. 1 HUP, 2 INT, 3 QUIT, 10 USR1,
# 12 USR2, 14 ALRM, 15 TERM, 24 XCPU.
trap : 1 2 3 10 12 14 15 24

@EXPORTS@
cd @WORK@ 2>/dev/null || cd "$HOME" 2>/dev/null || cd /
umask @UMASK@
@SHELL@ <@INPUT@ >>"$d/out" 2>>"$d/err" 4>"$d/script-began"
code=$?
umask 077

finish=$(date +%s)
# Not in a subshell, which would print its own times. The second line is that of all children.
times >"$d/times"
{ read -r cpu && read -r cpu; } <"$d/times"
# A shell reports only that the script has begun; a container also that it has ended without having begun. No line ends there.
mark=
{ read -r mark; } 2>/dev/null <"$d/script-began"
begun=no
[ "$mark" = s ] && begun=yes
result=@RESULT@

memory=
group=@CGROUP@
if [ -n "$group" ]; then
  while IFS=: read -r _ controllers path; do
    case $path/ in */"$group"/*) ;; *) continue ;; esac
    path=${path%%/"$group"/*}/$group
    case $controllers in
      '') memory=$(cat "/sys/fs/cgroup$path/memory.peak" 2>/dev/null) ;;
      *memory*) memory=$(cat "/sys/fs/cgroup/memory$path/memory.max_usage_in_bytes" 2>/dev/null) ;;
    esac
  done </proc/self/cgroup
fi

rm -f "$d/script"
unrecorded() {
  echo "nunbird: cannot write the record of this stage into $d" >&2
  exit 75
}
# A file that is not there cannot be counted, and a record without its number would be a lie.
stdout=$(wc -c <"$d/out") && stderr=$(wc -c <"$d/err") || unrecorded
report record "code $code
begun $begun
result $result
start $start
finish $finish
host $host
hosts $hosts
stdout $((stdout))
stderr $((stderr))
cpu $cpu
memory $memory" || unrecorded
@EXIT@
