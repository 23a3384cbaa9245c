"""The terminal client: the keyboard and the socket, each read by a coroutine of its own.

At a terminal there is a line editor below the conversation, and a third coroutine paints it. Anywhere else the bytes of
stdin go to the server as they are, and what comes back is printed as lines of plain text.
"""

from __future__ import annotations

import os
import select
import signal
import sys

from loop import EpollPoller, Kernel, SelectPoller, Signals, TimedOut, read

from .conversation import PIECE, Conversation
from .display import Plain, Window, why
from .terminal import Terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from loop import Task
    from loop.traps import Coroutine

    from .conversation import Address

# Signals that end a program if not caught. The terminal would then be left without echo.
ENDING = [
    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM,
    signal.SIGVTALRM, signal.SIGPROF, signal.SIGXCPU,
]  # fmt: skip
FAREWELL = 2.0  # after Ctrl-D, so many seconds without progress end the client


class Client:
    """One run of the program. `addresses` are the server's; they are tried in turn.

    To end it, any code raises SystemExit, with the exit status or a last line for stderr. The kernel lets that pass.
    """

    def __init__(self, options: Namespace, addresses: list[Address]) -> None:
        # Without epoll: select, because kqueue refuses some terminals. select takes no descriptor above 1023
        self.kernel = Kernel(EpollPoller() if hasattr(select, "epoll") else SelectPoller())
        self.terminal = Terminal()
        self.window = Window(self.terminal, options) if self.terminal.interactive() else None
        self.display = self.window or Plain(self.terminal, options)
        self.conversation = Conversation(
            self.kernel, self.spawn, self.display, options, addresses, at_terminal=self.window is not None
        )

    def run(self) -> None:
        """Run to the end, which is a SystemExit. Raises OSError if the system does not let it begin."""
        more = [signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT] if self.window else []
        signals = Signals(*ENDING, *more)
        self.spawn(self.handle_signals(signals))
        self.spawn(self.conversation.run())
        try:
            if self.window:
                self.terminal.take()
                self.spawn(self.read_keys(self.window))
                self.spawn(self.window.paint())
            else:
                self.spawn(self.pipe())
            self.kernel.run()
        finally:
            if self.window:
                try:
                    self.terminal.give_back(self.window.finish())
                finally:
                    self.terminal.give_back("\r\n")  # does nothing, unless finish() has failed
            for task in list(self.kernel.tasks):
                task.cancel()
            if self.kernel.ready:
                self.kernel.turn()  # lets the cancelled tasks close what they have opened
            signals.close()
            self.terminal.close()
            self.kernel.poller.close()

    def spawn(self, coroutine: Coroutine[None]) -> Task:
        return self.kernel.spawn(self.supervise(coroutine))

    def supervise(self, coroutine: Coroutine[None]) -> Coroutine[None]:
        """COROUTINE. Runs `coroutine`. If it fails, the client ends, with a traceback if the failure is a bug."""
        try:
            yield from coroutine
        except OSError as error:
            sys.exit(f"chatclient: cannot go on: {why(error)}")
        except Exception:
            import traceback  # only now: it takes long to import

            sys.exit(f"chatclient failed\n{traceback.format_exc().rstrip()}")

    def handle_signals(self, signals: Signals) -> Coroutine[None]:
        """COROUTINE. Does what signals ask for."""
        while True:
            for number in (yield from signals.wait()):
                if not self.window or number in ENDING:
                    sys.exit(128 + number)
                if number == signal.SIGTSTP:
                    self.terminal.suspend(self.window.screen.hide(), os.getpid())
                if number == signal.SIGCONT:  # we were stopped, and a shell may have used the terminal meanwhile
                    self.terminal.take()
                    self.window.screen.repaint()
                self.window.resize()

    def pipe(self) -> Coroutine[None]:
        """COROUTINE. Passes stdin on to the server, no faster than the socket takes it."""
        try:
            while data := (yield from read(0, PIECE)):
                self.conversation.say(data)
                yield from self.conversation.drain()
        except OSError as error:
            sys.exit(f"chatclient: cannot read stdin: {why(error)}")
        self.conversation.end()

    def read_keys(self, window: Window) -> Coroutine[None]:
        """COROUTINE. Passes keys to the editor, and does what the editor orders."""
        editor = window.editor
        while True:
            window.changed.wake_all()
            try:
                keys = yield from read(0, PIECE, editor.keyboard.patience)
                if not keys:
                    sys.exit(128 + signal.SIGHUP)  # the terminal is gone
                orders = editor.press(keys)
            except TimedOut:
                orders = editor.settle()
            except OSError:
                sys.exit(128 + signal.SIGHUP)
            for what, text in orders:
                if what == "say":
                    lines = text if text.endswith("\n") else text + "\n"
                    self.conversation.say(lines.encode("utf-8", "surrogateescape"))
                elif what == "again":
                    self.conversation.hurry.wake()
                elif what == "repaint":
                    window.screen.repaint()
                elif what == "suspend":
                    self.terminal.suspend(window.screen.hide())
                    window.resize()
                elif what == "interrupt":
                    window.screen.drop()
                    sys.exit(128 + signal.SIGINT)
                elif what == "end":
                    self.conversation.end()
                    if editor.trouble:
                        self.conversation.exit()
                    self.display.show_trouble("leaving")
                    self.spawn(self.conversation.farewell(FAREWELL))
