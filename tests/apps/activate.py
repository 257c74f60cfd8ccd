"""systemd's side of socket activation: `activate.py FD FD COMMAND...` passes both as 3 and 4."""

import os
import sys

descriptors, command = sys.argv[1:3], sys.argv[3:]
copies = []
for descriptor in descriptors:
    copy = os.dup(int(descriptor))
    while copy in (3, 4):
        copy = os.dup(copy)
    copies.append(copy)
for target, copy in zip((3, 4), copies, strict=True):
    os.dup2(copy, target, inheritable=True)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2"}
os.execv(command[0], command)
