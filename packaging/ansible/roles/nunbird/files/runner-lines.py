"""Puts Nunbird's lines into gitlab-runner's configuration, and prints `changed` or `same`.

usage: python3 - FILE EXAMPLE [--check]

FILE is gitlab-runner's config.toml, EXAMPLE the package's gitlab-runner.toml, whose [runners.custom] and shutdown_timeout it takes.
It runs as the owner of FILE's directory, who can replace FILE anyway, and prints nothing of FILE, which contains the runners' tokens. Python 3.6 or later.
"""

import os
import re
import stat
import sys

BEGIN, END = "# BEGIN nunbird", "# END nunbird"
# An earlier run's lines; what `gitlab-runner register --executor custom` leaves: no program, and no other key.
OWN = re.compile(r"^[ \t]*" + BEGIN + r"\n.*?^[ \t]*" + END + r"[ \t]*(?:\n|\Z)", re.M | re.S)
REGISTERED = re.compile(r'^[ \t]*\[runners\.custom\][ \t]*\n(?:[ \t]*run_exec[ \t]*=[ \t]*""[ \t]*(?:\n|\Z)|[ \t]*\n)*(?=[ \t]*\[|\Z)', re.M)
CUSTOM = re.compile(r"^[ \t]*\[[ \t]*runners[ \t]*\.[ \t]*custom[ \t]*\]", re.M)
SHUTDOWN = re.compile(r"^shutdown_timeout[ \t]*=.*$", re.M)


def settings(text):
    """Keys and values of the first [runners.custom], without comments and blanks: gitlab-runner drops those where it writes its file anew."""
    lines = []
    for line in text[CUSTOM.search(text).end():].splitlines():
        if line.lstrip().startswith("["):
            break
        if "=" in line and not line.lstrip().startswith("#"):
            lines.append(re.sub(r"\s", "", line))
    return sorted(lines)


def edited(text, example):
    """The text with the lines, at its end, where they belong to the only runner."""
    lines, shutdown = example[CUSTOM.search(example).start():], SHUTDOWN.search(example).group()
    rest = REGISTERED.sub("", OWN.sub("", text)).rstrip() + "\n"
    # With several runners, or a table of the site's own, only the site knows which one is meant.
    if len(re.findall(r"^[ \t]*\[\[runners\]\]", rest, re.M)) != 1 or not re.search(r'^[ \t]*executor[ \t]*=[ \t]*"custom"', rest, re.M):
        raise ValueError('it needs one [[runners]], with executor = "custom"')
    # gitlab-runner has written these lines anew: they stay as they are.
    written = bool(CUSTOM.search(rest)) and settings(rest) == settings(lines)
    if CUSTOM.search(rest) and not written:
        raise ValueError("it has a [runners.custom] of the site's own")
    if SHUTDOWN.search(rest):
        rest = SHUTDOWN.sub(lambda _: shutdown, rest)
    else:
        rest = shutdown + "\n" + rest
    return rest if written else rest + BEGIN + "\n" + lines.rstrip() + "\n" + END + "\n"


def replace(file, meta, text):
    """Another file of the same owner, group and mode takes the file's place."""
    beside = file + ".nunbird-new"
    if os.path.lexists(beside):
        os.unlink(beside)
    try:
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w", encoding="utf-8", newline="") as opened:
            own = os.fstat(opened.fileno())
            if (own.st_uid, own.st_gid) != (meta.st_uid, meta.st_gid):
                try:
                    os.fchown(opened.fileno(), meta.st_uid, meta.st_gid)
                except PermissionError:
                    raise ValueError("its directory's owner cannot keep its owner and group: chown both to the runner's account, or to root")
            os.fchmod(opened.fileno(), stat.S_IMODE(meta.st_mode))
            opened.write(text)
            opened.flush()
            os.fsync(opened.fileno())
        os.rename(beside, file)
    except BaseException:
        if os.path.lexists(beside):
            os.unlink(beside)
        raise


def main(file, example, *check):
    with open(example, encoding="utf-8") as opened:
        example = opened.read()
    with open(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), encoding="utf-8", newline="") as opened:
        meta, text = os.fstat(opened.fileno()), opened.read()
    if not stat.S_ISREG(meta.st_mode):
        raise ValueError("it is not a regular file")
    new = edited(text, example)
    if new != text and not check:
        replace(file, meta, new)
    print("same" if new == text else "changed")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except UnicodeDecodeError:
        sys.exit("%s: it is not UTF-8" % sys.argv[1])
    except ValueError as e:
        sys.exit("%s: %s" % (sys.argv[1], e))
    except OSError as e:
        sys.exit("%s: %s" % (e.filename or sys.argv[1], e.strerror))
