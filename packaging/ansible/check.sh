#!/bin/bash
# Tests the role: packaging/ansible/check.sh PROGRAMS [ANSIBLE]
#   PROGRAMS  directory with the programs, as `make suite` leaves them in target/staging
#   ANSIBLE   directory with ansible-playbook; without it ansible-core is installed from PyPI into a virtual environment that is removed
# A booted host gets the example's play twice: the first changes it, the second changes nothing. Then a policy with an error, which is
# refused and leaves the old one in place, and configurations of the runner that the role does not touch. No ssh: ansible's "ssh" is a script that enters the host's namespaces.
set -u
[ $# -ge 1 ] || { sed -n '2,6s/^# //p' "$0" >&2; exit 2; }
programs=$(cd "$1" && pwd) || exit 2
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../booted/host.sh"
work=$(mktemp -d) || exit 1
at_end() { rm -rf --one-file-system "$work"; }
passed=0 failed=0
ok() { passed=$((passed + 1)); echo "ok      $1"; }
nok() { failed=$((failed + 1)); echo "FAILED  $1"; [ -z "${2-}" ] || echo "$2" | sed 's/^/        /'; }
same() { if [ "$2" = "$3" ]; then ok "$1"; else nok "$1" "expected: $2
found:    $3"; fi; }

DEB_REVISION=10 DEB_COMPRESSION=none "$here/../deb/build.sh" --prebuilt "$programs" --out "$work/deb" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
# What lies in the directory as well: an earlier revision, which by its letters is the last, and another architecture's package.
for other in $(cd "$work/deb" && echo nunbird_*.deb | sed -n 's/\(.*\)-10_\(.*\)/\1-9_\2 \1-11_riscv64.deb/p'); do : >"$work/deb/$other"; done
[ "$(ls "$work/deb" | wc -l)" = 4 ] || { echo "$0: not four packages: $(ls "$work/deb")" >&2; exit 2; }
boot role
ansible=${2-}
if [ -z "$ansible" ]; then
  # The newest whose releases still run with Debian 12's Python.
  python3 -m venv "$work/venv" && "$work/venv/bin/pip" install --quiet 'ansible-core>=2.18,<2.20' >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
  ansible=$work/venv/bin
fi
# What a site has.
cp "$here/../booted/gitlab.py" "$tree/usr/local/bin/gitlab.py"
chmod 755 "$tree/usr/local/bin/gitlab.py"
in_host 'useradd -m ada; useradd -r -m gitlab-runner; mkdir -m 700 /etc/gitlab-runner
  printf "concurrent = 4\n\n[[runners]]\n  name = \"hpc\"\n  url = \"https://gitlab.example.org\"\n  token = \"glrt-x\"\n  executor = \"custom\"\n  [runners.custom]\n    run_exec = \"\"\n" >/etc/gitlab-runner/config.toml
  chmod 600 /etc/gitlab-runner/config.toml; chown -R gitlab-runner: /etc/gitlab-runner
  systemd-run --quiet --unit=nbt-gitlab /usr/local/bin/gitlab.py serve /srv/gitlab; while [ ! -e /srv/gitlab/ready ]; do sleep 0.1; done
  cp /srv/gitlab/ca.pem /usr/local/share/ca-certificates/site.crt; update-ca-certificates' >"$work/log" 2>&1
cat >"$work/enter" <<ENTER
#!/bin/sh
# As ssh: the last word is a shell command.
for command; do :; done
exec nsenter --target $pid1 --mount --uts --ipc --pid --net --cgroup --wdns=/root -- \\
  env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root USER=root LC_ALL=C.UTF-8 sh -c "\$command"
ENTER
chmod 755 "$work/enter"
echo "[runners]
nbt-host ansible_ssh_executable=$work/enter ansible_ssh_transfer_method=piped ansible_python_interpreter=/usr/bin/python3" >"$work/inventory"
: >"$work/ansible.cfg"
play() { # EXTRA…
  ANSIBLE_CONFIG=$work/ansible.cfg ANSIBLE_HOME=$work/home ANSIBLE_ROLES_PATH=$here/roles ANSIBLE_NOCOLOR=1 ANSIBLE_HOST_KEY_CHECKING=0 ANSIBLE_BECOME=0 LC_ALL=C.UTF-8 \
    "$ansible/ansible-playbook" -i "$work/inventory" -e ansible_become=false -e "nunbird_package_dir=$work/deb" "$@" "$here/site.yml" >"$work/log" 2>&1
}
recap() { sed -n 's/^nbt-host *: //p' "$work/log"; }

if play --diff -vv -e nunbird_proxy_auth=ci:nbt-secret; then ok "the first run"; else nok "the first run" "$(tail -40 "$work/log")"; exit 1; fi
same "it prints neither the runners' tokens nor the proxy's password" "" "$(grep -E 'glrt-x|nbt-secret' "$work/log")"
same "the proxy's password is for nunbird-keys" "640 root:nunbird ci:nbt-secret" "$(in_host 'stat -c "%a %U:%G" /etc/nunbird/proxy-auth; cat /etc/nunbird/proxy-auth' | paste -sd' ')"
same "of all packages the newest for this architecture is installed" 10 "$(in_host 'dpkg-query -W -f "\${Version}" nunbird' | sed 's/.*-//')"
case $(recap) in *changed=0*) nok "the first run changes the host" "$(recap)" ;; *) ok "the first run changes the host" ;; esac
same "installed, with privilege for the runner's group" "4750 root:gitlab-runner" "$(in_host 'stat -c "%a %U:%G" /opt/nunbird/bin/nunbird-auth')"
same "the timers run" "active active" "$(in_host 'systemctl is-active nunbird-keys.timer nunbird-sweep.timer' | paste -sd' ')"
same "the keys are there" yes "$(in_host 'grep -q first-hour /var/lib/nunbird/keys/example.json && echo yes')"
same "the policy and the host are in order" 0 "$(in_host 'nunbirdctl check >/dev/null 2>&1; echo $?')"
same "gitlab-runner's file stays its account's" "600 gitlab-runner gitlab-runner" "$(in_host 'stat -c "%a %U %G" /etc/gitlab-runner/config.toml')"
same "the empty table of \`register\` is replaced" 1 "$(in_host 'grep -c "runners.custom" /etc/gitlab-runner/config.toml')"
same "the unit has the drop-in" yes "$(in_host '[ -e /etc/systemd/system/gitlab-runner.service.d/10-nunbird.conf ] && echo yes')"
printf ada >"$tree/srv/gitlab/login"
same "a job runs as its user" ada \
  "$(in_host 'runuser -u gitlab-runner -- /usr/local/bin/gitlab.py job /srv/gitlab /etc/gitlab-runner/config.toml ada https://gitlab.example.org "id -un"' 2>/dev/null | grep '^ada$')"

if play -e nunbird_proxy_auth=ci:nbt-secret; then ok "the second run"; else nok "the second run" "$(tail -40 "$work/log")"; fi
case $(recap) in *changed=0*) ok "the second run changes nothing" ;; *) nok "the second run changes nothing" "$(grep -B3 '^changed' "$work/log")" ;; esac

# gitlab-runner writes its file anew where it gets another token: without comments, keys in an order of its own, and a blank table more.
in_host 'cd /etc/gitlab-runner && { grep -v "^ *#" config.toml | sed "/runners.custom/,\$d"; printf "  [runners.cache]\n  [runners.custom]\n"
  grep -v "^ *#" config.toml | sed "1,/runners.custom/d" | grep = | sort; } >/root/written && cat /root/written >config.toml'
if play -e nunbird_proxy_auth=ci:nbt-secret; then ok "a run after gitlab-runner has written its file"; else nok "a run after gitlab-runner has written its file" "$(tail -40 "$work/log")"; fi
case $(recap) in *changed=0*) ok "it changes nothing" ;; *) nok "it changes nothing" "$(grep -B3 '^changed' "$work/log")" ;; esac
in_host 'sed -i "s/run_args = .*/run_args = [\"run\", \"--our-own\"]/" /etc/gitlab-runner/config.toml'
if play -e nunbird_proxy_auth=ci:nbt-secret; then nok "lines that the site has changed are not replaced"; else
  grep -q "of the site's own" "$work/log" && ok "lines that the site has changed are not replaced" || nok "lines that the site has changed are not replaced" "$(tail -20 "$work/log")"
fi
in_host 'cat /root/written >/etc/gitlab-runner/config.toml'

before=$(in_host 'sha256sum /etc/nunbird/config.toml')
printf 'nunbird_policy: |\n  [[gitlab]]\n  nam = "example"\n' >"$work/wrong.yml"
if play -e "@$work/wrong.yml"; then nok "a policy with an error is refused"; else
  grep -q 'unknown key' "$work/log" && ok "a policy with an error is refused, with the reason" || nok "a policy with an error is refused, with the reason" "$(tail -20 "$work/log")"
fi
same "and the old one stays" "$before" "$(in_host 'sha256sum /etc/nunbird/config.toml')"
in_host 'printf "\n[[runners]]\n  name = \"other\"\n  executor = \"custom\"\n" >>/etc/gitlab-runner/config.toml'
if play; then nok "of two runners the role changes none"; else
  grep -q 'needs one' "$work/log" && ok "of two runners the role changes none" || nok "of two runners the role changes none" "$(tail -20 "$work/log")"
fi
in_host 'cp -p /etc/gitlab-runner/config.toml /root/nbt-file && chown root: /root/nbt-file && cd /etc/gitlab-runner && mv config.toml kept.toml && runuser -u gitlab-runner -- ln -s /root/nbt-file config.toml'
before=$(in_host 'sha256sum /root/nbt-file')
if play; then nok "a link in place of the runner's file is refused"; else
  grep -q 'not a link' "$work/log" && ok "a link in place of the runner's file is refused" || nok "a link in place of the runner's file is refused" "$(tail -20 "$work/log")"
fi
same "and what it points to stays" "$before" "$(in_host 'sha256sum /root/nbt-file')"

# A site that comes from Jacamar CI, without a policy of its own.
in_host 'cd /etc/gitlab-runner && rm config.toml && cat >config.toml' <<RUNNER >/dev/null
shutdown_timeout = 120
[[runners]]
  name = "hpc"
  url = "https://gitlab.example.org"
  token = "glrt-x"
  executor = "custom"
  [runners.custom]
    config_exec = "/opt/jacamar/bin/jacamar-auth"
    config_args = ["config", "--configuration", "/etc/nunbird/jacamar.toml"]
    prepare_exec = "/opt/jacamar/bin/jacamar-auth"
    prepare_args = ["prepare"]
    run_exec = "/opt/jacamar/bin/jacamar-auth"
    run_args = ["run"]
    cleanup_exec = "/opt/jacamar/bin/jacamar-auth"
    cleanup_args = ["cleanup", "--configuration", "/etc/nunbird/jacamar.toml"]
    graceful_kill_timeout = 60
    force_kill_timeout = 10
RUNNER
in_host 'cd /etc/gitlab-runner && chown gitlab-runner: config.toml && chmod 600 config.toml; rm -f /var/lib/nunbird/keys/*'
cat >"$work/adopt.yml" <<'ADOPT'
nunbird_policy: ""
nunbird_runner: adopt
nunbird_files:
  jacamar.toml: |
    [general]
    executor = "shell"
    data_dir = "$HOME"
    jwt_env_variable = "SITE_ID_TOKEN"
    [auth]
    downscope = "setuid"
nunbird_adopt_options: [--gitlab-server, "https://gitlab.example.org", --configuration, /etc/nunbird/jacamar.toml]
ADOPT
if play -e "@$work/adopt.yml"; then ok "runners that call Jacamar CI are switched"; else nok "runners that call Jacamar CI are switched" "$(tail -40 "$work/log")"; fi
same "all four stages of them" 4 "$(in_host 'grep -c /opt/nunbird/bin/nunbird-auth /etc/gitlab-runner/config.toml')"
same "the keys of their server are fetched" yes "$(in_host 'grep -q first-hour /var/lib/nunbird/keys/gitlab-example-org.json && echo yes')"
if play -e "@$work/adopt.yml"; then ok "again"; else nok "again" "$(tail -40 "$work/log")"; fi
case $(recap) in *changed=0*) ok "and nothing changes" ;; *) nok "and nothing changes" "$(grep -B3 '^changed' "$work/log")" ;; esac
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
