# The job's services: servers in containers of their own beside the job's, in its network namespace. Part of the outer script.
services=@NUMBERS@

# What is known of one, by its number.
service() {
  case $1 in
@EACH@
  esac
  log=@LOG@
}

# Values of variables that no line of a file can have.
keep_values() {
@VALUES@
}

service_create() {
  link_names || return 1
  case $1 in
@CREATE@
  esac
}

service_start() {
@START@
}

service_code() {
@CODE@
}

service_end() {
@END@
}

# Whether the engine's process of a service is there: its command line has the name.
service_lives() {
  pid=$(cat @PROCESS@ 2>/dev/null) && [ -n "$pid" ] && grep -qF -e "$s" "/proc/$pid/cmdline" 2>/dev/null
}

# Whether anything in the network of the container accepts connections to 127.0.0.1 on a port of the service. The kernel's list
# of sockets shows it: a connection would be one that the server has to handle.
service_listens() {
  while read -r _ address _ state _; do
    [ "$state" = 0A ] || continue
    case ${address%:*} in
      00000000 | 0100007F | 7F000001 | 00000000000000000000000000000000 | 0000000000000000FFFF00000100007F | 00000000000000000000FFFF7F000001) ;;
      *) continue ;;
    esac
    case " $ports " in *" ${address##*:} "*) return 0 ;; esac
  done <<EOF
$(cat "/proc/$keeper/net/tcp" "/proc/$keeper/net/tcp6" 2>/dev/null)
EOF
  return 1
}

# Lines of a service's log without what the engine writes before each, and without what a terminal acts on.
service_text() {
  cut -d ' ' -f @TEXT@- | cut -c 1-2000 | tr -d '\000-\010\013-\037\177' | sed "s/^/[$label] /"
}

last_lines() {
  tail -n 12 "$log" 2>/dev/null | tail -c 16384 | service_text
}

# What a service has written since the last time. A file that has become shorter was begun anew by the engine.
show_log() {
  from=0 shown=0
  { read -r from && read -r shown; } 2>/dev/null <"$r/$s.shown"
  size=$(wc -c <"$log" 2>/dev/null) || return 0
  [ "$size" -ge "$from" ] || from=0
  [ "$size" -gt "$from" ] && [ "$shown" -lt @MOST@ ] || return 0
  part=$((size - from))
  if [ "$part" -gt 65536 ]; then
    echo "[$label] … ($((part - 65536)) bytes of output are left out)"
    from=$((size - 65536)) part=65536
  fi
  shown=$((shown + part))
  tail -c "+$((from + 1))" "$log" 2>/dev/null | head -c "$part" | service_text
  [ "$shown" -lt @MOST@ ] || echo "[$label] … (no more of its output is shown)"
  printf '%s\n%s\n' "$size" "$shown" >"$r/$s.shown"
}

# How many processes of this control group the kernel has killed because of its limit of memory; nothing where nobody counts.
killed_for_memory() {
  while IFS=: read -r _ controllers path; do
    case ,$controllers, in
      ,,) events=/sys/fs/cgroup$path/memory.events ;;
      *,memory,*) events=/sys/fs/cgroup/memory$path/memory.oom_control ;;
      *) continue ;;
    esac
    sed -n 's/^oom_kill //p' "$events" 2>/dev/null
  done </proc/self/cgroup
}

# How a service has ended, in words. Only the control group distinguishes a limit of memory from another kill. The engine may
# call a killed service alive for one more look, so of one with 137 all kills count since a service was last seen to end.
ended() {
  exit=$(service_code 2>/dev/null | tr -cd '0-9')
  printf 'has ended with exit code %s' "${exit:-that is not known}"
  since=killed
  [ "$exit" != 137 ] || since=blamed
  [ "${exit:-0}" = 0 ] || [ "$(killed_for_memory)" = "$(cat "$r/$since" 2>/dev/null)" ] || printf ' (out of memory: the job has reached its limit)'
}

# The job fails because of a service.
unserved() {
  printf 'end @NONCE@\n' >@LOST@
  printf 'nunbird: %s\n' "$1" >&2
  exit 65
}

lost() {
  grep -qxF 'end @NONCE@' @LOST@ 2>/dev/null
}

# Starts the services, once for each network that the container has had: it gets a new one when it is started again.
serve() {
  [ -n "$services" ] || return 0
  keeper=$(cat @KEEPER@ 2>/dev/null)
  if [ -z "$keeper" ] || [ "$(cat "$r/served" 2>/dev/null)" != "$keeper" ]; then
    [ -n "$keeper" ] || fail "$title does not report the process of the job's container, so its services cannot be started; report it to the administrators"
    start_services
    echo "$keeper" >"$r/served"
  fi
  rm -rf -- @VARIABLES@
}

start_services() {
@ALONE@
  killed_for_memory >"$r/killed"
  cp "$r/killed" "$r/blamed"
  begin=$(date +%s)
  [ -e "$r/values" ] || keep_values >"$r/said" 2>&1
  : >"$r/values"
  for n in $services; do
    service "$n"
    rm -f "$r/$s.reported"
    if [ -e "$r/$s.made" ]; then
      service_start >"$r/said" 2>&1
    else
      service_create "$n" >"$r/said" 2>&1
    fi || unserved "$title cannot start the service $label: $(said)"
    : >"$r/$s.made"
  done
  waiting=$services
  while [ -n "$waiting" ]; do
    still=
    for n in $waiting; do
      service "$n"
      if [ -z "$ports" ]; then
        echo "the service $label is started; its port is unknown, so it is not waited for"
      elif service_listens; then
        echo "the service $label listens after $(($(date +%s) - begin)) s"
      elif service_lives; then
        still="$still $n"
      else
        how=$(ended)
        last_lines
        unserved "the service $label $how before it listened on $listens; its last lines are above"
      fi
    done
    waiting=$still
    if [ -n "$waiting" ]; then
      if [ "$(($(date +%s) - begin))" -ge @TIMEOUT@ ]; then
        service "${waiting##* }"
        last_lines
        unserved "the service $label does not listen on $listens after @TIMEOUT@ s; its last lines are above: if it needs more time, ask the administrators to raise \`service_timeout\` of @CONTAINER@; if it listens on another port, set the variable HEALTHCHECK_TCP_PORT of the service"
      fi
      sleep 0.2 2>/dev/null || sleep 1
    fi
  done
}

# Reports what services have written, and which have ended.
look() {
  # From before: a service that is killed while this looks is reported the next time.
  before=$(killed_for_memory)
  some=
  for n in $services; do
    service "$n"
@SHOW@
    if [ -e "$r/$s.reported" ] || service_lives; then
      continue
    fi
    : >"$r/$s.reported"
    some=1
    how=$(ended)
    killed_for_memory >"$r/blamed"
@LAST@
@ENDS@
  done
  if [ -n "$some" ]; then
    killed_for_memory >"$r/killed"
  else
    printf '%s\n' "$before" >"$r/killed"
  fi
}

# While the stage runs. Signals to the stage's processes are not for it.
watch() {
  [ -n "$services" ] || return 0
  (
    over=
    trap '' 1 2 3 12 14 15 24
    trap 'over=1' 10
    while [ -z "$over" ]; do
      look >&2
      sleep 1 >/dev/null 2>&1 &
      wait "$!"
    done
  ) </dev/null 8>&- 9>&- &
  watcher=$!
}

unwatch() {
  [ -n "$services" ] || return 0
  kill -s USR1 "$watcher" 2>/dev/null
  while kill -s 0 "$watcher" 2>/dev/null; do
    wait "$watcher" 2>/dev/null
  done
  look >&2
}

end_services() {
  for n in $services; do
    service "$n"
    if service_lives; then
      service_end >/dev/null 2>&1
    fi
  done
}
