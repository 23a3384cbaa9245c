"""A process that has loaded ./chatsrv or ./chatclient, and forks for each that a test starts; see forked.py.

What it forks differs from any other in this alone: Python has started, and imported what it needs, before.
"""

from __future__ import annotations

import fcntl
import importlib
import json
import os
import runpy
import select
import socket
import sys
import termios

# What each program imports only if it gets such a flag.
IMPORTS = {
    "chatsrv": {
        "--cluster": ["chat.server.cluster.join", "chat.server.cluster.address"],
        "--handler": ["chat.server.loading"],
        "--tls": ["chat.server.certificate"],
        "--web": ["chat.server.web.wire"],
    },
    "chatclient": {"--tls": ["chat.trust"]},
}


def serve(control: socket.socket, imports: dict[str, list[str]]) -> list[str]:
    """Fork for each request. Returns in the forked processes only: the program's arguments."""
    running: dict[int, tuple[int, int]] = {}  # by its pidfd: a process, and the socket of its Forked
    poll = select.poll()
    poll.register(control, select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd in running:
                poll.unregister(fd)
                os.close(fd)
                tell_the_end(*running.pop(fd))
                continue
            request, fds, *_ = socket.recv_fds(control, 1 << 18, 4)
            if not request:
                os._exit(0)  # the tests are over
            folder, environment, arguments = json.loads(request)
            for flag in imports.keys() & set(arguments):
                for module in imports[flag]:
                    importlib.import_module(module)
            pid = os.fork()
            if not pid:
                control.detach()
                be_like_new(*fds)
                os.chdir(folder)
                os.environ.clear()
                os.environ.update(environment)
                return list(arguments)
            *streams, line = fds
            for stream in streams:
                os.close(stream)
            write(line, pid)
            pidfd = os.pidfd_open(pid)
            running[pidfd] = pid, line
            poll.register(pidfd, select.POLLIN)


def be_like_new(*streams: int) -> None:
    """Have a session and standard streams of one's own, and no other descriptors."""
    os.setsid()
    for number in 0, 1, 2:
        os.dup2(streams[number], number)
    os.closerange(3, 1024)
    if os.isatty(0):
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def tell_the_end(pid: int, line: int) -> None:
    """Tell how a process has ended, before its pid can be that of another process."""
    end = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert end
    write(line, end.si_status if end.si_code == os.CLD_EXITED else -end.si_status)
    os.waitpid(pid, 0)
    os.close(line)


def write(line: int, number: int) -> None:
    try:
        os.write(line, b"%d" % number)
    except OSError:
        pass  # the test has failed, and does not wait for it


if __name__ == "__main__":
    program, number = sys.argv[1:]
    main = runpy.run_path(program)["main"]
    imports = IMPORTS[os.path.basename(program)]
    sys.argv = [program, *serve(socket.socket(fileno=int(number)), imports)]
    sys.exit(main())
