# The part of `vm_machine.rs` that runs in the virtual machine, as root; lines are as those of `vm_limits.sh`.
service=/sys/fs/cgroup/system.slice/nbt-runner.service
call() { nbt-enter </calls/$1-$2 2>&1 | sed "s/^/$1 $2: /"; echo "fact $1 $2 exit ${PIPESTATUS[0]}"; }
fact() { echo "fact $*"; }
# Whether a process of this id of the machine is in a group below the job's.
inside() {
  p=$(pgrep -o -u $((1879048192 + $1))) || { echo none; return; }
  case $(cut -d: -f3 /proc/$p/cgroup) in */nbt-runner.service/nunbird-*/nunbird-machine-*/*) echo yes ;; *) cat /proc/$p/cgroup ;; esac
}

chmod 755 /var/lib/nunbird/machines /var/lib/nunbird/machines/debian /var/lib/nunbird/machines/debian/1
chmod 700 /var/lib/nunbird/machines/debian/1/tree
cp -a /jobs/* "$(cat /calls/directory)/"
call one config
call one prepare
call one look
fact read back $(cd $service/nunbird-*/ && cat memory.max pids.max cpu.max)
call one forks
fact inside agent $(inside 4101)
call one hungry
call one cleanup
machines() { ps -eo uid= | awk '$1 >= 1879048192 && $1 < 1879113728' | wc -l; }
fact ended processes $(machines) groups $(find $service -mindepth 1 -name 'nunbird-*' | wc -l) notes $(ls /run/nunbird/machines | wc -l) mounts $(grep -c ' /run/nunbird/mounts' /proc/mounts)
