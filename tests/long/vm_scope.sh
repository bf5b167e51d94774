# The part of `vm_scope.rs` that runs in the virtual machine, as root; lines are as those of `vm_limits.sh`.
config=/etc/nunbird/config.toml
call() { nbt-enter </calls/$1-$2 2>&1 | sed "s/^/$1 $2: /"; echo "fact $1 $2 exit ${PIPESTATUS[0]}"; }
fact() { echo "fact $*"; }
of() { pgrep -c -u "$1"; }
units() { systemctl list-units --all --plain --no-legend 'nunbird-*.slice' 'nunbird-*.scope' | wc -l; }
slices() { find /sys/fs/cgroup/nunbird.slice -mindepth 1 -maxdepth 1 -name 'nunbird-*.slice'; }

fallocate -l 400M /swap && chmod 600 /swap && mkswap -q /swap && swapon /swap && fact swap is on
cp -a /jobs/* "$(cat /calls/directory)/"
sed -i 's/^pids = .*/&\nio_weight = 200\nway = "scope"/' $config

for job in one two; do call $job config & done; wait
fact slices $(units) of nunbird.slice $(slices | wc -l)
for file in memory.max pids.max cgroup.procs cgroup.kill; do
  for slice in $(slices); do setpriv --reuid nbt_runner --clear-groups sh -c "echo 0 >$slice/$file" 2>/dev/null && echo "lifted $file"; done
done | grep . || fact the runner lifted nothing
call one prepare; call one sources
for job in one two; do call $job look; done
for task in hungry forks spin escape; do call one $task; done
call two stay & call one storm; wait
systemd-cgls --no-pager --unit nunbird.slice | head -12
fact stayed alice $(($(of alice) > 20)) bob $(of bob)
call one cleanup
fact ended alice $(of alice) bob $(of bob)
call one cleanup
call two cleanup
fact ended all alice $(of alice) bob $(of bob) units $(units) groups $(slices | wc -l)
fact audit oom_kills $(grep -c '"stage-ended".*"stage":"cleanup".*"oom_kills":1,' /var/log/nunbird/audit.jsonl)

# A scope does not end with the service, and the next stage finds its limits.
call three config
call three stay
systemctl restart nbt-runner.service
stayed=$(of alice)
call three look
call three cleanup
fact after restart stayed $stayed alice $(of alice) units $(units)
