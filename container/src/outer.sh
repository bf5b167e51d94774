#!/bin/sh
# Nunbird's outer script: puts a container around one stage of a CI job. Plain POSIX: it needs nothing of Nunbird on the node.
#
#   setup            make the private runtime directory; print what was chosen
#   engine WORD...   run one command of the engine as all of them are run
#   create           make the container, unless it runs
#   run              make it, unless it runs; run the stage in it, whose script is standard input
#   once             in an allocation: bring the image, make the container, run the stage, remove the container; prints
#                    on descriptor 4 `s` if the script has begun and ended, `t` if it has ended without having begun
#   lacks            print why user namespaces are of no use on this host
#   stop             end all processes in it, and keep its files
#   destroy          remove it, and all that setup and create have made on this host
#   remove           the same, and the files that the job's containers share
#   leavings         remove what stages in allocations have left on this host
umask 077
d=@DIRECTORY@
name=@NAME@
title=@TITLE@
ids=many
why=
PATH=@PATH@
export PATH
NUNBIRD_CONTAINER=$name
export NUNBIRD_CONTAINER

fail() {
  printf 'nunbird: %s\n' "$*" >&2
  exit 75
}

# The network file system that holds a path; nothing for any other.
network() {
  case $(stat -f -c %t "$1" 2>/dev/null) in
@NETWORKS@
    *) return 1 ;;
  esac
}

# Ours alone, and no link of another account's: what is in it decides what runs.
private() {
  mkdir -m 700 "$1" 2>/dev/null || { [ -d "$1" ] && [ ! -L "$1" ] && [ -O "$1" ] && chmod go-w "$1"; }
}

choose_ids() {
@IDS@
}

# Whether the account has subordinate ids: in the file, or where the name service has them.
subordinate() {
  while IFS=: read -r owner _ count; do
    case $owner in @OWNER@ | @UID@) [ "$count" -gt 0 ] 2>/dev/null && return 0 ;; esac
  done 2>/dev/null <"$1"
  grep -q '^subid:' /etc/nsswitch.conf 2>/dev/null || return 1
  case $1 in *gid) getsubids -g @OWNER@ ;; *) getsubids @OWNER@ ;; esac >/dev/null 2>&1
}

# Why user namespaces are of no use on this host, as the end of a sentence; nothing where they are.
lacks() {
@LACKS@
}

# The same, unless the engine's words have another cause: unshare(1) is tried in the engine's place, which may be allowed what unshare is not.
lacks_unless() {
  case $1 in
    *"user namespace"* | *"cannot clone"* | *unshare*) lacks ;;
    */bin/sh* | *"xecutable file"* | *"xec format error"* | *"o space left on device"* | *"isk quota exceeded"* | *"max depth exceeded"* | *"too large"*) ;;
    *) lacks ;;
  esac
}

# The same on each call: the first place that fits. Without a process where it is made: `ready` is written into what `private` has made, and
# a directory of the account's has its mode from the account alone.
runtime() {
  r=
  for base in @BASES@; do
    if [ -e "$base/$name/ready" ] && is_ours "$base/$name"; then
      r=$base/$name
      return 0
    fi
  done
  for base in @BASES@; do
    if [ -d "$base" ] && [ -w "$base" ] && [ -x "$base" ] && ! network "$base" >/dev/null && private "$base/$name"; then
      r=$base/$name
      break
    fi
  done
  [ -n "$r" ] || fail "cannot make a private directory for $title: neither of @BASES_SHOWN@ is on a local file system and writable; report it to the administrators"
}

places() {
  choose_ids
  runtime
  own_places
}

# What follows from $name and $r.
own_places() {
  store=@STORE@
  images=@IMAGES@
  layers=@LAYERS@
@ENVIRONMENT@
}

# The engine's store on the disk of this host.
make_store() {
@MAKE_STORE@
}

write_files() {
@FILES@
  :
}

# A process that keeps the namespace with one id, for all of the engine's commands.
holder=
hold() {
  [ "$ids" = one ] || return 0
  if holder=$(cat "$r/holder" 2>/dev/null) && [ -n "$holder" ] && ours "$holder"; then
    return 0
  fi
  holder=$(setsid @HOLDER@ /bin/sh -c 'echo "$$"; exec sleep 2147483647 >/dev/null 2>&1' </dev/null 8>&- 9>&- &)
  [ -n "$holder" ] || fail "cannot make a user namespace on this host: they are switched off, or unshare(1) is missing$(lacks); report it to the administrators"
  echo "$holder" >"$r/holder"
}

# Whether a process belongs to this container, and not to another process that has its number by now.
ours() {
  tr '\0' '\n' 2>/dev/null <"/proc/$1/environ" | grep -qxF "NUNBIRD_CONTAINER=$name"
}

set_up() {
  command -v @PROGRAM@ >/dev/null 2>&1 || fail "$title is not installed on the host $(uname -n): there is no program" @PROGRAM@ "on $PATH; report it to the administrators"
  places
  if [ ! -e "$r/ready" ]; then
@NEEDS@
    make_store
    write_files
    : >"$r/ready"
  fi
  hold
}

# The locks are this script's alone: what an engine leaves running would hold them.
engine() {
  if [ "$ids" = one ]; then
    @ENTER_NAMESPACE@"$@" 8>&- 9>&-
  else
    "$@" 8>&- 9>&-
  fi
}

# Whether it runs, once its first process is what it is going to be: engines do not wait for that.
settled() {
  left=100
  while ! running; do
    { [ -n "$pid" ] && [ -d "/proc/$pid" ] && [ "$left" -gt 0 ]; } || return 1
    left=$((left - 1))
    sleep 0.1 2>/dev/null || sleep 1
  done
  # The engine's own program has the name in its arguments as well, and nothing can enter the container until it is replaced by what
  # the container does. Another process of a site's description never has these words.
  left=20
  while [ -n "$pid" ] && [ "$left" -gt 0 ] && ! grep -qF ": $name;" "/proc/$pid/cmdline" 2>/dev/null; do
    left=$((left - 1))
    sleep 0.1 2>/dev/null || sleep 1
  done
  running
}

says=@SAYS@
pid=
running() {
@LIVES@
}

running_says() {
@RUNNING@
}

start() {
@START@
}

link_names() {
@LINKS@
  return 0
}

create() {
  link_names || return 1
@CREATE@
}

ensure() {
@ENSURE@
}

# The image, from the file that the runner's host has written, unless this host has it.
provide() {
@PROVIDE@
}

enter() {
@ENTER@
}

stop() {
@STOP@
}

destroy() {
@DESTROY@
}

clear_layers() {
@CLEAR@
}

# The engine's own processes may still write for a moment.
remove() {
  left=20
  while ! rm -rf -- "$@" 2>/dev/null; do
    left=$((left - 1))
    [ "$left" -gt 0 ] || return 1
    sleep 0.1 2>/dev/null || sleep 1
  done
}

# The scheduler's variables, for the inner script: not every engine passes them on. A link that an earlier stage has put there
# is not followed.
keep_variables() (
  rm -f "$d/scheduler"
  set -C
  # A value with lines of its own would look like more names; and a token is no business of the image.
  env | sed -n 's/^\([A-Za-z_][A-Za-z0-9_]*\)=.*/\1/p' | while read -r one; do
    case $one in
      *_JWT | *_TOKEN | *_PASSWORD) continue ;;
      SLURM_* | SLURMD_* | PBS_* | LSB_* | FLUX_* | COBALT_* | SGE_* | _CONDOR_*) ;;
      JOB_ID | NSLOTS | NHOSTS | PE_HOSTFILE | OMP_NUM_THREADS) ;;
      CUDA_VISIBLE_DEVICES | ROCR_VISIBLE_DEVICES | HIP_VISIBLE_DEVICES | GPU_DEVICE_ORDINAL | ZE_AFFINITY_MASK) ;;
      *) continue ;;
    esac
    eval "[ -n \"\${$one+set}\" ]" || continue
    eval "value=\$$one"
    case $value in *\'*) value=$(printf '%s\n' "$value" | sed "s/'/'\\\\''/g") ;; esac
    printf "export %s='%s'\n" "$one" "$value"
  done >"$d/scheduler"
)

# Runs the stage. Signals are the script's to act on; a shell runs a trap only after its foreground command.
run() {
  asked=
  trap 'asked=1' 1 2 3 10 12 14 15 24
  watch
  enter
  code=$?
  unwatch
  # A signal that ended the engine's command has not ended the script, which may still have its time to end.
  left=@GRACE@
  while [ -n "$asked" ] && [ "$left" -gt 0 ] && ! grep -qxF 'end @NONCE@' "$d/record" 2>/dev/null && running; do
    sleep 1
    left=$((left - 1))
  done
}

# The engine tidies up behind each container that has ended, and would make directories anew. One that is found is grep(1) itself.
settle() {
  [ -n "$layers" ] || return 0
  left=50
  while [ "$left" -gt 0 ] && [ "$(grep -lsF -e "$layers" /proc/[0-9]*/cmdline | wc -l)" -gt 1 ]; do
    sleep 0.1 2>/dev/null || sleep 1
    left=$((left - 1))
  done
}

# Removes the container, all that was made for it, and the files in $d if that is set.
take_away() {
  if [ -e "$layers" ] || [ -e "$r/made" ]; then
    write_files
    hold
    cd "$r" || exit 75
    destroy >"$r/said" 2>&1 </dev/null || echo "nunbird: $title could not remove the container $name: $(said)" >&2
    settle
    # They may have files of other ids.
    if ! rm -rf -- ${d:+"$d"} ${layers:+"$layers"} 2>/dev/null; then
      clear_layers >/dev/null 2>&1 </dev/null
      remove ${d:+"$d"} ${layers:+"$layers"} || fail "cannot remove $d $layers; remove them by hand"
    fi
  fi
  cd /
  for pid in $(cat "$r/holder" @PAUSE@ 2>/dev/null); do
    if ours "$pid"; then
      kill -9 "$pid" 2>/dev/null
    fi
  done
  remove "$r" || fail "cannot remove $r; remove it by hand"
}

# Shows that this stage lives, until this shell has ended: `alive` is locked before it has its name, so that nobody finds it without
# the lock.
lock() {
  command -v flock >/dev/null 2>&1 || return 0
  # A shell ends where exec(1p) cannot open a file.
  if (: >"$r/.alive") 2>/dev/null; then
    exec 9>"$r/.alive" && flock 9 && mv "$r/.alive" "$r/alive"
  fi
  if [ -n "$layers" ] && (: >"$layers/.alive") 2>/dev/null; then
    exec 8>"$layers/.alive" && flock 8 && mv "$layers/.alive" "$layers/alive"
  fi
}

# A directory of ours, and no link.
is_ours() {
  [ -n "$1" ] && [ -d "$1" ] && [ ! -L "$1" ] && [ -O "$1" ]
}

# Ends all processes of the container $name.
kill_all() {
  left=50
  # Its status says nothing: there are files that it may not read.
  while pids=$(grep -lszxF "NUNBIRD_CONTAINER=$name" /proc/[0-9]*/environ) || :; [ -n "$pids" ] && [ "$left" -gt 0 ]; do
    for pid in $pids; do
      pid=${pid#/proc/}
      kill -9 "${pid%/environ}" 2>/dev/null
    done
    left=$((left - 1))
    sleep 0.1 2>/dev/null || sleep 1
  done
}

# Removes what stages in allocations have left on this host that the scheduler has killed at once. Such a stage is over if nobody
# holds its locks. A directory without the file `alive` is left: its stage may be about to begin.
leavings() {
  command -v flock >/dev/null 2>&1 || return 0
  for place in @BASES@ ${layers:+"${layers%/*}"}; do
    for old in "$place"/nb-????????????????????-????????; do
      [ "${old##*/}" = "$name" ] || ! is_ours "$old" || (remove_stage "${old##*/}")
    done
  done
}

# Whether it has the file that a stage's lock is on. A FIFO in its place would hold this up.
is_free() {
  [ -f "$1/alive" ] && [ ! -L "$1/alive" ]
}

# A job can leave a tree that takes hours to remove, and nobody waits for that: the next stage goes on with it. This script again, because
# timeout(1) runs programs alone; it ends rm(1) as well.
leavings_for_a_while() {
  command -v timeout >/dev/null 2>&1 || return 0
  rm -f "$r/cleaning"
  timeout -k 2 @CLEAN@ /bin/sh "$0" leavings </dev/null >/dev/null 2>&1 8>&- 9>&- && return 0
  # What was being removed may have lost this file.
  while read -r old; do
    ! is_ours "$old" || : >"$old/alive"
  done 2>/dev/null <"$r/cleaning"
  return 0
}

# Removes a directory with its file `alive` last, so that what is left when this is ended is known for what it is.
remove_tree() {
  find "$1" -mindepth 1 -maxdepth 1 ! -name alive -exec rm -rf -- {} + && rm -rf -- "$1"
}

# In a subshell. Both directories must be free: with a private /tmp only one of them is in sight.
remove_stage() {
  name=$1 place=${r%/*} note=$r/cleaning
  for base in @BASES@; do
    if is_ours "$base/$name"; then
      place=$base
    fi
  done
  r=$place/$name d=
  own_places
  # Whatever another account has put there is neither read nor written.
  if [ -e "$r" ] || [ -L "$r" ]; then
    is_ours "$r" && is_free "$r" && exec 9<"$r/alive" && flock -n 9 || return 0
  fi
  if [ -n "$layers" ] && { [ -e "$layers" ] || [ -L "$layers" ]; }; then
    is_ours "$layers" && is_free "$layers" && exec 8<"$layers/alive" && flock -n 8 || return 0
  fi
  printf '%s\n' "$r" "$layers" >"$note"
  kill_all
  if [ -n "$layers" ] && [ -d "$layers" ] && ! remove_tree "$layers"; then
    # They may have files of other ids. The engine's commands carry the name, so they are found below.
    private "$r" || return 0
    : >"$r/alive"
    (
      NUNBIRD_CONTAINER=$name
      export NUNBIRD_CONTAINER
      write_files
      hold
      clear_layers </dev/null
    )
    kill_all
    if ! rm -rf -- "$layers"; then
      # The next stage tries again.
      : >"$layers/alive"
      return 0
    fi
  fi
  [ ! -d "$r" ] || remove_tree "$r"
}

@SERVICES@
# The last words of the engine, on one line: its mounts' options alone can be kilobytes.
said() {
  tail -n 4 "$r/said" 2>/dev/null | tail -c 1000 | tr '\n\r\t' '   ' | tr -d '\000-\037'
}

case $1 in
  setup)
    set_up
    leavings_for_a_while
    printf 'ids %s\nwhy %s\nruntime %s\nimages %s\nlayers %s\n' "$ids" "$why" "$r" "$images" "$layers"
    ;;
  engine)
    shift
    set_up
    # The modes of an image's files are the image's.
    umask 022
    cd "$r" || exit 75
    engine "$@" </dev/null
    ;;
  create)
    set_up
    cd "$r" || exit 75
    ensure
    serve
    look
    ! lost || exit 65
    ;;
  run)
    set_up
    cd "$r" || exit 75
    ensure
    serve >&2
    run
    exit "$code"
    ;;
  once)
    # A signal of the scheduler's must not leave a container behind.
    trap 'asked=1' 1 2 3 10 12 14 15 24
    keep_variables
    code=75
    # In subshells, so that what fails does not keep the rest from being removed. The locks are this shell's, to its end: all that it
    # starts has the name in its environment.
    if (set_up) 4>&-; then
      places
      lock
      (
        set_up
        leavings_for_a_while
        cd "$r" || exit 75
        provide >"$r/said" 2>&1 || fail "$title cannot take the image from the file that the job's prepare stage has written: $(said)"
        ensure
        serve >&2
        run
        exit "$code"
      ) 4>&-
      code=$?
    fi
    ended_with=
    if grep -qxF 'end @NONCE@' "$d/record" 2>/dev/null; then
      ended_with=$(sed -n 's/^code //p' "$d/record")
      began=$(sed -n 's/^begun //p' "$d/record")
    fi
    places
    # The node's part alone.
    (d= && take_away) 4>&-
    if [ -z "$ended_with" ] && lost; then
      printf s >&4
      exit 1
    fi
    [ -n "$ended_with" ] || fail "the stage ended in its container without a result: its processes were killed, the image has no shell, or its entrypoint has not run the shell that it was given ($title ended with $code)$([ -s "$d/began" ] || lacks)"
    case $began in yes) printf s ;; *) printf t ;; esac >&4
    exit "$ended_with"
    ;;
  lacks)
    lacks
    ;;
  stop)
    set_up
    cd "$r" || exit 75
    if running; then
      stop >"$r/said" 2>&1 || fail "$title cannot end what runs in the container: $(said)"
      left=100
      while running && [ "$left" -gt 0 ]; do
        sleep 0.1 2>/dev/null || sleep 1
        left=$((left - 1))
      done
    fi
    end_services
    ;;
  leavings)
    places
    leavings
    ;;
  destroy | remove)
    places
    [ "$1" = remove ] || d=
    take_away
    ;;
  *)
    fail "the outer script of a container takes no command '$1'"
    ;;
esac
