#!/bin/bash
# Follows "First hour" of docs/admin-guide.md on a fresh booted host, and prints the time of each step:
#   packaging/first-hour.sh PROGRAMS   directory with the programs, as `make suite` leaves them in target/staging
# The commands and files are read out of the guide, so the guide is what is tested; they are at the markers <!-- first hour: … -->. GitLab and
# gitlab-runner are doubles (booted/gitlab.py): the second reads the runner's configuration that the guide says how to write.
set -u
[ $# = 1 ] || { sed -n '2,5s/^# //p' "$0" >&2; exit 2; }
programs=$(cd "$1" && pwd) || exit 2
here=$(cd "$(dirname "$0")" && pwd)
guide=$here/../docs/admin-guide.md
. "$here/booted/host.sh"

work=$(mktemp -d) || exit 1
at_end() { rm -rf --one-file-system "$work"; }
total=0 failed=0
seconds() { date +%s.%N; }
# step NAME COMMAND…: runs it, with its output below the line with its time
step() {
  local name=$1 began code
  shift
  began=$(seconds)
  "$@" >"$work/out" 2>&1
  code=$?
  took=$(echo "$(seconds) $began" | awk '{printf "%.1f", $1 - $2}')
  total=$(echo "$total $took" | awk '{print $1 + $2}')
  printf '%6s s  %s\n' "$took" "$name"
  sed 's/.*\r//; s/^/          | /' "$work/out"
  [ $code = 0 ] || { echo "          ^ failed with exit code $code"; failed=1; exit 1; }
}

echo "preparing a fresh host (not counted)"
DEB_COMPRESSION=none "$here/deb/build.sh" --prebuilt "$programs" --out "$work/deb" >"$work/out" 2>&1 || { cat "$work/out" >&2; exit 1; }
boot hour
cp "$work"/deb/nunbird_*.deb "$tree/root/"
cp "$here/booted/gitlab.py" "$tree/usr/local/bin/gitlab.py"
chmod 755 "$tree/usr/local/bin/gitlab.py"
# What a site has: users, gitlab-runner with its account, a configuration as `register` leaves it, and a service; and GitLab.
cat >"$tree/usr/bin/gitlab-runner" <<'RUNNER'
#!/bin/sh
case $1 in --version) echo 'Version:      18.11.4' ;; run) while :; do sleep 3600; done ;; esac
RUNNER
chmod 755 "$tree/usr/bin/gitlab-runner"
cat >"$tree/etc/systemd/system/gitlab-runner.service" <<'UNIT'
[Service]
User=gitlab-runner
ExecStart=/usr/bin/gitlab-runner run
[Install]
WantedBy=multi-user.target
UNIT
in_host 'useradd -m -s /bin/bash ada && useradd -r -m -s /bin/bash gitlab-runner && mkdir -m 700 /etc/gitlab-runner &&
  printf "concurrent = 4\n\n[[runners]]\n  name = \"hpc\"\n  url = \"https://gitlab.example.org\"\n  token = \"glrt-x\"\n  executor = \"custom\"\n  [runners.custom]\n    run_exec = \"\"\n" >/etc/gitlab-runner/config.toml &&
  chmod 600 /etc/gitlab-runner/config.toml && chown -R gitlab-runner: /etc/gitlab-runner && systemctl daemon-reload && systemctl start gitlab-runner &&
  { systemd-run --quiet --unit=nbt-gitlab /usr/local/bin/gitlab.py serve /srv/gitlab; while [ ! -e /srv/gitlab/ready ]; do sleep 0.1; done; } &&
  printf ada >/srv/gitlab/login && cp /srv/gitlab/ca.pem /usr/local/share/ca-certificates/site.crt && update-ca-certificates' >"$work/out" 2>&1 ||
  { cat "$work/out" >&2; exit 1; }

echo "the guide, step by step"
# The blocks behind the markers, one file each: N.what and N.text
awk -v out="$work" '
  /<!-- first hour: / { what = $0; sub(/.*<!-- first hour: /, "", what); sub(/ -->.*/, "", what); next }
  what != "" && /^ *```/ && !inside { inside = 1; indent = match($0, /`/) - 1; n++; print what >(out "/" n ".what"); next }
  inside && /^ *```/ { inside = 0; what = ""; next }
  inside { print substr($0, indent + 1) >(out "/" n ".text") }' "$guide"
count=0
while [ -e "$work/$((count + 1)).what" ]; do
  count=$((count + 1))
  what=$(cat "$work/$count.what")
  case $what in
    run)
      while read -r line; do
        # An admin would answer apt's question.
        step "$line" in_host "$(echo "$line" | sed 's/^apt install/apt-get install -y -q/')"
      done <"$work/$count.text"
      ;;
    write\ *) step "${what}" cp "$work/$count.text" "$tree${what#write }" ;;
    replace\ the\ last\ table\ of\ *)
      # `register` leaves the table at the end of the file; a second one of the name would be an error of TOML.
      file=$tree${what#replace the last table of }
      step "${what}" sh -c 'sed -i "/^ *\[runners.custom\]/,\$d" "$2" && cat "$1" >>"$2"' sh "$work/$count.text" "$file"
      ;;
    job)
      audience=$(sed -n 's/^ *aud: *//p' "$work/$count.text")
      sed -n '/script:/,$ s/^ *- //p' "$work/$count.text" >"$tree/root/script"
      step "the first job" in_host "runuser -u gitlab-runner -- /usr/local/bin/gitlab.py job /srv/gitlab /etc/gitlab-runner/config.toml ada '$audience' \"\$(cat /root/script)\""
      grep -q "uid=[0-9]*(ada)" "$work/out" || { echo "          ^ the job did not run as ada"; exit 1; }
      ;;
    *) echo "$guide: no such step: $what" >&2; exit 2 ;;
  esac
done
[ "$count" -ge 6 ] || { echo "$guide: only $count steps are marked" >&2; exit 2; }
grep -q ada "$work/out" || { echo "the last step does not show the job" >&2; exit 1; }
printf '%6s s  in all, of 300 that are allowed\n' "$total"
awk -v total="$total" 'BEGIN { exit !(total < 300) }'
