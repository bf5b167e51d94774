# Nunbird's inner script: read by the image's /bin/sh, in the container. It runs the stage's script, which is standard input, and
# reports how it ended.
exec 3<&0 </dev/null
# It lives on to report it, whatever signals the script gets.
trap : 1 2 3 10 12 14 15 24
umask 077
command -v cat >/dev/null 2>&1 || PATH=${PATH:+$PATH:}/usr/local/bin:/usr/bin:/bin
export PATH
printf 'end %s\n' @NONCE@ >@DIRECTORY@/began || exit 75
# Room for what is written at the end, when the script may have filled the disk.
printf '%200s\n' '' >@DIRECTORY@/record || exit 75
# In an allocation: the scheduler's variables.
if [ -f @DIRECTORY@/scheduler ]; then . @DIRECTORY@/scheduler; fi
@EXPORTS@
cd @WORK@ 2>/dev/null || cd "$HOME" 2>/dev/null || cd /
umask @UMASK@
if command -v bash >/dev/null 2>&1; then
  bash @LOGIN@-c @COMMAND@ bash
else
  /bin/sh @LOGIN@-c @COMMAND@ sh
fi
code=$?
umask 077
begun=no
[ -s @DIRECTORY@/script ] && begun=yes
printf 'code %s\nbegun %s\nend %s\n' "$code" "$begun" @NONCE@ 1<>@DIRECTORY@/record || {
  echo 'nunbird: cannot note how the script ended' >&2
  exit 75
}
exit "$code"
