#!/bin/bash
# The programs of the container of packaging/container: nest run|write-config|add-runner|check-config|dump|prune|setting. Root here is the person who
# runs the container. docs/own-runner.md, "The same as a container".
set -u
umask 022
config=/etc/nunbird/config.toml
runners=/etc/gitlab-runner/config.toml
fail() { echo "nest: $*" >&2; exit 1; }
setting() { sed -n "s/^$1=//p" /etc/nunbird/nest; }
as() { # ACCOUNT WORD…: without a process in between, so that signals arrive
  local account=$1 program variable
  program=$(type -P setpriv)
  shift
  # Of the container's environment a program has the proxy alone: gitlab-runner reaches the server by it. No argument has its password.
  for variable in $(compgen -e); do
    case $variable in
      http_proxy | https_proxy | no_proxy | HTTP_PROXY | HTTPS_PROXY | NO_PROXY) ;;
      *) unset "$variable" ;;
    esac
  done
  export HOME=/var/lib/$account USER=$account LOGNAME=$account PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
  exec "$program" --reuid="$account" --regid="$account" --init-groups -- "$@"
}
# A basic string of TOML.
string() {
  case $1 in *[[:cntrl:]]*) fail "a setting with a control character" ;; esac
  local text=${1//\\/\\\\}
  printf '"%s"' "${text//\"/\\\"}"
}

# Three ids behind those of jobs: with fewer, nothing here has the owner that it should have.
check_ids() {
  local map count
  for map in uid gid; do
    count=$(awk '{ n += $3 } END { print n }' /proc/self/${map}_map)
    [ "$count" -ge 65540 ] || fail "this container has $count ${map}s, and needs 65540: one of the person's and 65539 subordinate ones (/etc/sub$map); after a change: podman system migrate"
  done
}

run() {
  check_ids
  [ -r $config ] && [ -s $runners ] || fail "no configuration: start the container with nunbird-nest start, after nunbird-nest register"
  # Volumes that were removed come back empty, and root's.
  local volume
  for volume in /storage /cache; do
    chown jobs:jobs $volume && chmod 0700 $volume || fail "$volume: cannot give it to the account jobs"
  done
  chown gitlab-runner:gitlab-runner /var/log/nunbird && chmod 0755 /var/log/nunbird || fail "/var/log/nunbird: cannot give it to the account gitlab-runner"
  # With the host's network nothing knows this name, and sudo would say so at each stage.
  getent hosts "$HOSTNAME" >/dev/null || echo "127.0.0.1 $HOSTNAME" >>/etc/hosts
  # GitLab tells managers of a runner apart by this; without it each start would be a new one.
  printf 'r_%s' "$(grep -m1 '^ *token *=' $runners | sha256sum | head -c 12)" >/etc/gitlab-runner/.runner_system_id
  chown gitlab-runner: /etc/gitlab-runner/.runner_system_id
  ( while :; do ( as nunbird /opt/nunbird/bin/nunbird-keys refresh ); sleep 3600; done ) &
  tail --quiet -n 0 -F /var/log/nunbird/audit.jsonl 2>/dev/null &
  ( as gitlab-runner gitlab-runner run --config $runners --working-directory /var/lib/gitlab-runner ) &
  local runner=$! status
  # gitlab-runner ends its jobs and then itself; QUIT lets jobs end by themselves.
  trap 'kill -TERM $runner' TERM INT
  trap 'kill -QUIT $runner' QUIT
  while :; do
    wait $runner
    status=$?
    # A signal ends wait(1) early.
    kill -0 $runner 2>/dev/null || exit $status
  done
}

# URL LOGIN AUDIENCE CA(yes|no)
write_config() {
  local ca=''
  [ "$4" = no ] || ca=$'ca_file = "/etc/nunbird/ca.pem"\n'
  local options=''
  [ "$(setting nested_privileged)" = false ] || options=$'# In the user namespace of the account jobs: image builds need it.\noptions = ["--privileged"]\n'
  cat <<END
# The runner in a container: \`nunbird-nest register\` has made this text; \`nunbird-nest edit-config nunbird\` changes it.
# Jobs run in containers, and so do the stages that handle their sources, caches and artifacts, with the jobs' own hooks. All are the account jobs of
# this container: a user whom a rule admits can read and change what other jobs have.
downscope = "sudo"

[[gitlab]]
name = "server"
url = $(string "$1")
audience = $(string "$3")
$ca
[audit]
file = "/var/log/nunbird/audit.jsonl"

[directories]
data_dir = "/cache/\$USER"

[job]
container = "nest"

[container.nest]
engine = "podman"
default_image = $(string "$(setting default_image)")
# It has git and gitlab-runner. Without it the \`hooks:\` of a job would run outside of containers, beside those of all jobs.
runner_image = $(string "$(setting runner_image)")
store = "/storage/\$USER"
root = true
$options# \`nest prune\` removes what no job has used for so long.
cache_max_age = "30d"

[[rule]]
name = "me"
when = { server = "server", user = $(string "$2") }
run_as = "jobs"
END
}

# NAME; standard input: a line with the token, and then what there is. Prints the text with this runner.
add_runner() {
  local name=$1 token text
  IFS= read -r token || [ -n "$token" ] || fail "standard input: no token"
  text=$(cat)
  case $name in '' | *[!A-Za-z0-9._-]*) fail "a runner's name has letters, digits, \`.\`, \`_\` and \`-\`" ;; esac
  case $token in
    GR1348941*) fail "a registration token, which GitLab has given up; create the runner in GitLab, which then shows a token that begins with glrt-" ;;
    ???????? | ????????*) ;;
    *) fail "not a runner's token: it has fewer than eight characters" ;;
  esac
  case $token in *[!A-Za-z0-9._-]*) fail "not a runner's token, which has letters, digits, \`.\`, \`_\` and \`-\` on one line" ;; esac
  if grep -q "^ *name = \"$name\"\$" <<<"$text"; then
    fail "there is a runner $name: give this one another --name, or change that one with nunbird-nest edit-config"
  fi
  # No program's argument has the token.
  case $text in *"token = \"$token\""*) fail "another runner has this token; each runner has one of its own" ;; esac
  local table
  table=$(nunbirdctl runner-config --configuration $config) || exit 1
  local part="" line
  while IFS= read -r line; do
    case $line in
      *'token = "glrt-'*) line="${line%%token*}token = \"$token\"" ;;
      *'name = "hpc"'*) line="${line%%name*}name = \"$name\"" ;;
    esac
    part+=$line$'\n'
    case $line in *'url = '*)
      [ ! -s /etc/nunbird/ca.pem ] || ! grep -q '^ca_file' $config || part+="${line%%url*}tls-ca-file = \"/etc/nunbird/ca.pem\""$'\n' ;;
    esac
  done <<<"$table"
  case $part in *"name = \"$name\""*"token = \"$token\""* | *"token = \"$token\""*"name = \"$name\""*) ;; *) fail "nunbirdctl runner-config prints another form than this program knows" ;; esac
  if [ -z "$text" ]; then
    printf '# The runners, with their tokens: a secret of Podman. `nunbird-nest edit-config` changes it.\n'
    printf '# The most jobs at the same time. `nunbird-nest register` raises it by one.\nconcurrent = 1\n%s' "$part"
  else
    awk '/^\[/ { inside = 1 } !inside && /^concurrent *= *[0-9]+ *$/ { sub(/[0-9]+/, $NF + 1) } { print }' <<<"$text"
    printf '\n[[runners]]%s' "${part#*\[\[runners\]\]}"
  fi
}

# runners|nunbird; standard input: the text
check_config() {
  case $1 in
    runners) nunbirdctl runner-config --configuration $config --check - ;;
    nunbird)
      local file=/etc/nunbird/edited.toml
      cat >$file
      nunbirdctl runner-config --configuration $file >/dev/null
      ;;
    *) fail "check-config runners|nunbird" ;;
  esac
}

case ${1-run} in
  run) run ;;
  write-config) shift; [ $# = 4 ] || fail "write-config URL LOGIN AUDIENCE yes|no"; write_config "$@" ;;
  add-runner) shift; [ $# = 1 ] || fail "add-runner NAME"; add_runner "$@" ;;
  check-config) shift; check_config "${1-}" ;;
  dump) case ${2-runners} in runners) cat $runners ;; nunbird) cat $config ;; ca) cat /etc/nunbird/ca.pem ;; *) fail "dump runners|nunbird|ca" ;; esac ;;
  prune) as jobs nunbirdctl images prune ;;
  setting) setting "${2-}" ;;
  *) fail "no such command: $1" ;;
esac
