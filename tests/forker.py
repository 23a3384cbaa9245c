"""A process that has loaded ./chatsrv, and forks for each server that a test starts; see forked.py.

Such a server differs from any other in this alone: Python has started, and imported what it needs, before.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import select
import socket
import sys

# What the server imports only if it gets such a flag.
IMPORTS = {
    "--cluster": ["chat.server.cluster.join", "chat.server.cluster.address"],
    "--handler": ["chat.server.loading"],
    "--tls": ["chat.server.certificate"],
    "--web": ["chat.server.web.wire"],
}


def serve(control: socket.socket) -> list[str]:
    """Fork for each request. Returns in the forked processes only: the server's arguments."""
    running: dict[int, tuple[int, int]] = {}  # by its pidfd: a server's pid, and the socket of its Forked
    poll = select.poll()
    poll.register(control, select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd in running:
                poll.unregister(fd)
                os.close(fd)
                tell_the_end(*running.pop(fd))
                continue
            request, fds, *_ = socket.recv_fds(control, 1 << 18, 3)
            if not request:
                os._exit(0)  # the tests are over
            folder, environment, arguments = json.loads(request)
            for flag in IMPORTS.keys() & set(arguments):
                for module in IMPORTS[flag]:
                    importlib.import_module(module)
            pid = os.fork()
            if not pid:
                control.detach()
                be_like_new(*fds)
                os.chdir(folder)
                os.environ.clear()
                os.environ.update(environment)
                return list(arguments)
            stdout, stderr, line = fds
            os.close(stdout)
            os.close(stderr)
            os.write(line, b"%d" % pid)
            pidfd = os.pidfd_open(pid)
            running[pidfd] = pid, line
            poll.register(pidfd, select.POLLIN)


def be_like_new(stdout: int, stderr: int, _: int) -> None:
    """Have a session, a stdout and a stderr of one's own, and no other descriptors."""
    os.setsid()
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    os.closerange(3, 1024)


def tell_the_end(pid: int, line: int) -> None:
    """Tell how a server has ended, before its pid can be that of another process."""
    end = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert end
    try:
        os.write(line, b"%d" % (end.si_status if end.si_code == os.CLD_EXITED else -end.si_status))
    except OSError:
        pass  # the test has failed, and does not wait for it
    os.waitpid(pid, 0)
    os.close(line)


if __name__ == "__main__":
    program, number = sys.argv[1:]
    main = runpy.run_path(program)["main"]
    sys.argv = [program, *serve(socket.socket(fileno=int(number)))]
    sys.exit(main())
