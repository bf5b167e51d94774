# The part of `vm_limits.rs` that runs in the virtual machine, as root. Lines that begin with `fact ` are judged there.
service=/sys/fs/cgroup/system.slice/nbt-runner.service
config=/etc/nunbird/config.toml
call() { nbt-enter </calls/$1-$2 2>&1 | sed "s/^/$1 $2: /"; echo "fact $1 $2 exit ${PIPESTATUS[0]}"; }
fact() { echo "fact $*"; }
groups() { find $service -mindepth 1 -maxdepth 1 -type d -name 'nunbird-*' -printf '%f\n' | sort; }
of() { pgrep -c -u "$1"; }
# Waits for a condition, at most half a minute.
until_true() { for _ in $(seq 300); do "$@" && return 0; sleep 0.1; done; echo "fact waited in vain: $*"; return 1; }

# Without swap a limit of it shows nothing: the hungry job would fit into both.
fallocate -l 400M /swap && chmod 600 /swap && mkswap -q /swap && swapon /swap && fact swap is on
cp -a /jobs/* "$(cat /calls/directory)/"

# The unit gets what limits need by the package's drop-in alone. What doctor says of it:
doctor() { /opt/nunbird/bin/nunbirdctl doctor --runner-user nbt_runner | grep -o 'runner-unit.: .*'; }
sed -i '/^Delegate=/d' /etc/systemd/system/nbt-runner.service
systemctl daemon-reload; systemctl restart nbt-runner.service
fact plain $(doctor | grep -o 'has no Delegate=yes')
mkdir -p /etc/systemd/system/nbt-runner.service.d
cp /opt/nunbird/share/gitlab-runner.service.d/10-nunbird.conf /etc/systemd/system/nbt-runner.service.d/
systemctl daemon-reload; systemctl restart nbt-runner.service
fact dropped in $(systemctl show -P KillMode nbt-runner.service) findings $(doctor | wc -l)
fact before processes $(wc -l <$service/cgroup.procs) groups $(groups | wc -l)

# Two jobs at once; the first comes upon a service whose processes are in the way.
for job in one two; do call $job config & done; wait
fact service processes $(wc -l <$service/cgroup.procs) given $(cat $service/cgroup.subtree_control)
grep -qx "$(systemctl show -P MainPID nbt-runner)" $service/runner/cgroup.procs && fact leaf has the runner
fact groups $(groups | wc -l)
for job in one two; do call $job prepare; call $job sources; call $job look; done
for task in hungry forks spin escape; do call one $task; done
call two stay & call one storm; wait
fact stayed alice $(($(of alice) > 20)) bob $(of bob)
call one cleanup
fact ended alice $(of alice) bob $(of bob) groups $(groups | wc -l)
call one cleanup
call two cleanup
fact ended all alice $(of alice) bob $(of bob) groups $(groups | wc -l)
fact audit oom_kills $(grep -c '"stage-ended".*"stage":"cleanup".*"oom_kills":1,' /var/log/nunbird/audit.jsonl)

# Somebody lifts a limit behind the site's back.
call three config
echo max >$service/$(groups)/memory.max
call three look
call three cleanup

# The service restarts under a running job.
call four config
call four prepare
call four stay_here &
until_true test -e /home/alice/started
systemctl restart nbt-runner.service && fact restarted $(systemctl is-active nbt-runner.service)
wait
fact after restart alice $(of alice) groups $(groups | wc -l) processes $(wc -l <$service/cgroup.procs)
call four look
call four cleanup
call five config
call five look
call five cleanup

# The runner lost a job, whose time is up: root reaps it, in a group that is the runner's.
call nine config
call nine stay
record=$(ls /var/lib/nunbird/jobs/*.json)
sed -i 's/"expires_at":[0-9]*/"expires_at":1/' $record
/opt/nunbird/bin/nunbird-auth -u reap ${record##*/}
fact reaped $? alice $(of alice) groups $(groups | wc -l) records $(ls /var/lib/nunbird/jobs | grep -c json)

# A record that went without its group, and a job that has both.
call eleven config
call eleven stay
rm /var/lib/nunbird/jobs/*.json
call twelve config
call twelve stay
/opt/nunbird/bin/nunbirdctl sweep --runner-user nbt_runner
fact swept $? alice $(of alice) bob $(of bob) groups $(groups | wc -l)
call twelve look
call twelve cleanup

# With file capabilities in the place of the setuid bit.
auth=/opt/nunbird/bin/nunbird-auth
chmod 0750 $auth; setcap cap_setuid,cap_setgid=p $auth
call six config
call six look
call six stay
call six cleanup
fact capabilities $(getcap $auth | cut -d' ' -f2-) alice $(of alice) groups $(groups | wc -l)

# The share of the disks' time, their rate, and limits of processes.
sed -i 's,^pids = .*,&\nio_weight = 200\nio_max = [{ device = "/"\, write = "2MiB" }]\nnice = 7\noom_score_adj = 250\nnofile = 4000,' $config
call seven config
call seven look
call seven write
call seven cleanup

# Under a runner that is root, its service's group is root's.
auth=/opt/nunbird/bin/nunbird-auth
setcap -r $auth; chmod 0755 $auth
sed -i 's/^User=.*/User=root/' /etc/systemd/system/nbt-runner.service
chown -R root:root "$(cat /calls/directory)"
sed -i 's/"ids":{[^}]*}/"ids":null/' /calls/ten-*
systemctl daemon-reload; systemctl restart nbt-runner.service
call ten config
call ten look
call ten stay
call ten cleanup
fact root $(stat -c %U $service) alice $(of alice) groups $(groups | wc -l)
sed -i 's/^User=.*/User=nbt_runner/' /etc/systemd/system/nbt-runner.service
chown -R nbt_runner "$(cat /calls/directory)"
chown root:gitlab-runner $auth; chmod 4750 $auth
systemctl daemon-reload; systemctl restart nbt-runner.service

# A service that leaves its jobs alone when it stops: systemd cannot put a new main process above their groups.
printf '[Service]\nKillMode=process\n' >/etc/systemd/system/nbt-runner.service.d/kill.conf
systemctl daemon-reload
fact alone $(doctor | grep -o 'cannot start it again')
call eight config
call eight stay
systemctl restart nbt-runner.service
fact kept $(systemctl is-active nbt-runner.service) alice $(of alice) groups $(groups | wc -l)
journalctl -q -b -u nbt-runner.service -o cat | grep 219/CGROUP
rm /etc/systemd/system/nbt-runner.service.d/kill.conf
systemctl daemon-reload
systemctl kill --signal=KILL nbt-runner.service
until_true test ! -e $service/$(groups)/cgroup.procs
systemctl restart nbt-runner.service
call eight cleanup
fact end $(systemctl is-active nbt-runner.service) groups $(groups | wc -l) alice $(of alice)
