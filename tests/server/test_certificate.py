"""--tls: with Python's own client, and with those that people have."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from certificates import Authority, SecureClient
from chatting import GREETING, HERE, PATIENCE, PREFIX, ROOT, SMALL, Chatsrv, Client, Start, eventually, free_port
from timeless import Timeless
from wires import House

from chat.handlers.chat import chat
from chat.server.certificate import TOLD, Certificate
from chat.server.flags import Options
from loop import Kernel, sleep
from loop.tls import RECORD, TLS

if TYPE_CHECKING:
    from conftest import Build

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
MODERN = ssl.TLSVersion.TLSv1_3


@pytest.fixture
def secure(chatsrv: Start, authority: Authority) -> Callable[..., Chatsrv]:
    """Starts a server that speaks TLS."""
    return lambda *flags, **more: chatsrv("--tls", authority.issue(), *flags, **more)


def enter(server: Chatsrv, authority: Authority, **more: Any) -> SecureClient:
    """A client that speaks TLS and has been greeted."""
    client = SecureClient(server.port, authority.client(**more))
    server.clients.append(client)
    client.expect(b"Welcome", starts=True)
    return client


def plain_beside(chatsrv: Start, authority: Authority, *flags: str) -> tuple[Chatsrv, int]:
    """A server with a plain port, and the port that speaks TLS."""
    server = chatsrv("--tls", authority.issue(), "--tls-port", "0", *flags)
    assert server.journal
    return server, int(server.journal.expect("with TLS, listens on port")[0].split()[-1])


# The conversation.


@pytest.mark.parametrize("version", VERSIONS)
def test_all_talk_with_each_other_whatever_their_wire(
    chatsrv: Start, authority: Authority, version: ssl.TLSVersion
) -> None:
    server, port = plain_beside(chatsrv, authority)
    plain = server.client()
    server.port = port
    secure = enter(server, authority, minimum_version=version, maximum_version=version)
    assert secure.secure.version() == {VERSIONS[0]: "TLSv1.2", VERSIONS[1]: "TLSv1.3"}[version]
    for number in range(20):
        lines = [b"%d " % n + b"x" * 50 * number for n in range(50)]
        (plain, secure)[number % 2].say(*lines)
        for client in plain, secure:
            client.expect(*(PREFIX + line for line in lines))
    server.port = int(server.journal.lines("listens on port")[0].split()[-1])  # type: ignore[union-attr]


def test_everything_reaches_one_that_reads_slowly(secure: Start, authority: Authority) -> None:
    server = secure("--quiet")
    slow = SecureClient(server.port, authority.client(), buffer=SMALL)
    server.clients.append(slow)
    talker = enter(server, authority)
    lines = [b"%06d " % number + b"y" * 900 for number in range(8000)]
    for start in range(0, len(lines), 50):
        talker.say(*lines[start : start + 50])
        talker.expect(*(PREFIX + line for line in lines[start : start + 50]))
    slow.expect(GREETING, *(PREFIX + line for line in lines))


@pytest.mark.parametrize("version", VERSIONS)
def test_the_end_of_the_server_is_a_proper_one(secure: Start, authority: Authority, version: ssl.TLSVersion) -> None:
    server = secure()
    client = enter(server, authority, minimum_version=version, maximum_version=version)
    server.process.send_signal(signal.SIGTERM)
    assert client.everything() == b"* You are disconnected: the server is ending.\n"  # a cut would be an SSLError


def test_a_message_that_was_cut_off_is_not_published(secure: Start, authority: Authority) -> None:
    """Whoever is on the way can end the connection, but not with close_notify."""
    server = secure()
    other, cut = enter(server, authority), enter(server, authority)
    cut.send(b"a whole one\nyou may not")
    other.expect(PREFIX + b"a whole one")
    raw = socket.socket(fileno=cut.sock.detach())
    raw.shutdown(socket.SHUT_WR)
    server.terminated("end of stream")
    raw.close()
    other.say("hello")
    other.expect(PREFIX + b"hello")


# What does not belong here.


@pytest.mark.parametrize(
    ("said", "told", "why"),
    [
        (b"hello\n", TOLD, "it does not speak TLS"),
        (b"GET / HTTP/1.1\r\n\r\n", TOLD, "it does not speak TLS"),
        (b"\x16\x03\x01\x00\x05rubbish", b"\x15\x03", "no TLS: "),
        (b"\x16\x03\x01\xff\xff" + b"x" * 100, b"\x15\x03", "no TLS: "),
        (b"", b"", "no TLS: end of stream"),
    ],
)
def test_what_is_no_tls_is_told_so_and_published_nowhere(
    secure: Start, authority: Authority, said: bytes, told: bytes, why: str
) -> None:
    server = secure()
    stranger = Client(server.port)
    stranger.send(said)
    stranger.finish()
    assert stranger.everything().startswith(told)
    server.terminated(why)
    client = enter(server, authority)
    client.say("hello")
    client.expect(PREFIX + b"hello")
    assert server.journal and server.journal.expect(" > ") == [f"{client.name} > hello"]


@pytest.mark.parametrize("version", VERSIONS)
def test_tls_on_the_plain_port_is_published_nowhere(
    chatsrv: Start, authority: Authority, version: ssl.TLSVersion
) -> None:
    server = chatsrv()
    other = server.client()
    with pytest.raises(ssl.SSLError):
        SecureClient(server.port, authority.client(minimum_version=version, maximum_version=version))
    server.terminated("this port does not speak TLS")
    other.say("hello")
    other.expect(PREFIX + b"hello")


def test_bytes_that_only_look_a_little_like_tls_are_passed_on(chatsrv: Start) -> None:
    client = chatsrv().client()
    client.say(b"\x16", b"\x16\x03\x01 is how it begins", b"\x16\x03")
    client.expect(PREFIX + b"\x16", PREFIX + b"\x16\x03\x01 is how it begins", PREFIX + b"\x16\x03")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_old_versions_are_refused_with_an_alert(secure: Start, authority: Authority) -> None:
    server = secure()
    old = authority.client(minimum_version=ssl.TLSVersion.TLSv1, maximum_version=ssl.TLSVersion.TLSv1_1)
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError, match=r"(?i)alert protocol version"):
        SecureClient(server.port, old)
    server.terminated("no TLS: unsupported protocol")


def test_one_that_does_not_trust_the_certificate_says_so(secure: Start) -> None:
    server = secure()
    with pytest.raises(ssl.SSLCertVerificationError):
        SecureClient(server.port, ssl.create_default_context())
    server.terminated("no TLS: the other side complains: unknown ca")


# Handshakes. Here time does not pass.


def test_a_handshake_has_its_deadline_and_others_talk_meanwhile(house: Build, authority: Authority) -> None:
    here = house(wire=Certificate(authority.issue()).wire)
    silent, halfway = here.peer(), here.peer()
    plain = here.member(boxed=False)
    halfway.sock.send(hello(authority)[:100])
    plain.say(b"hello\n")
    plain.until(lambda: plain.heard == b"hello\n")
    assert here.ended(silent) == here.ended(halfway) == "no handshake within 10 s"
    silent.until(lambda: silent.fin)
    halfway.until(lambda: halfway.fin)
    assert silent.raw == TOLD and halfway.raw == b""  # one that waits to be greeted, and one that began with TLS


def test_a_thousand_at_once_take_one_step_a_turn(
    house: Build, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = house(wire=Certificate(authority.issue()).wire)
    shaken: list[int] = []
    turns = 0
    shake = TLS.shake

    def counted(tls: TLS) -> bool:
        shaken.append(turns)
        return shake(tls)

    monkeypatch.setattr(TLS, "shake", counted)
    peers = [here.peer() for _ in range(50)]
    for peer in peers:
        peer.sock.send(hello(authority))
    while len(shaken) < 100:
        here.kernel.turn()
        turns += 1
    assert len(set(shaken)) == len(shaken)


def test_one_that_is_refused_is_told_so_in_tls(secure: Start, authority: Authority) -> None:
    server = secure("--max-clients", "1")
    enter(server, authority)
    late = SecureClient(server.port, authority.client())
    assert late.everything() == b"* You are disconnected: the server is full.\n"


def hello(authority: Authority) -> bytes:
    """The first that a client says."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        authority.client().wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
    return outgoing.read()


# The certificate.


def serial(client: SecureClient) -> str:
    certificate: Any = client.secure.getpeercert()
    return str(certificate["serialNumber"])


def test_a_hangup_has_the_certificate_read_again(chatsrv: Start, authority: Authority, tmp_path: Path) -> None:
    file = authority.issue(into=str(tmp_path / "chat.pem"))
    server = chatsrv("--tls", file)
    assert server.journal
    first = enter(server, authority)
    authority.issue(into=file)
    server.process.send_signal(signal.SIGHUP)
    server.journal.expect("has read the certificate again")
    second = enter(server, authority)
    assert serial(first) != serial(second)
    Path(file).write_text("rubbish")
    server.process.send_signal(signal.SIGHUP)
    server.complaints.expect("the certificate stays as it was")
    third = enter(server, authority)
    assert serial(third) == serial(second)
    first.say("hello")
    for client in first, second, third:
        client.expect(PREFIX + b"hello")
    Path(file).unlink()
    os.mkfifo(file)  # to open it would wait for somebody to write, and all clients with it
    server.process.send_signal(signal.SIGHUP)
    server.complaints.expect(f"chatsrv: --tls: cannot read {file}: Not a regular file; the certificate stays as it was")
    first.say("still here")
    third.expect(PREFIX + b"still here")
    server.finish(complaint=None)


def refusal(*flags: str) -> str:
    command = [sys.executable, str(ROOT / "chatsrv"), "--port", "0", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=15)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    return done.stderr


def test_a_certificate_that_cannot_be_used_is_told_in_one_line(authority: Authority, tmp_path: Path) -> None:
    one, other = authority.issue(), authority.issue()
    locked = tmp_path / "locked.pem"
    command = ["openssl", "pkey", "-in", one, "-aes128", "-passout", "pass:secret", "-out", str(locked)]
    subprocess.run(command, check=True, timeout=15)
    missing = str(tmp_path / "missing.pem")
    assert refusal("--tls", missing) == f"chatsrv: --tls: cannot read {missing}: No such file or directory\n"
    assert refusal("--tls", f"{one},{missing}") == f"chatsrv: --tls: cannot read {missing}: No such file or directory\n"
    assert refusal("--tls", f"{one},/dev/zero") == "chatsrv: --tls: cannot read /dev/zero: Not a regular file\n"
    assert refusal("--tls", ",") == "chatsrv: --tls: cannot read '': No such file or directory\n"
    assert f"there is no certificate with a key in {authority.file}," in refusal("--tls", authority.file)
    assert refusal("--tls", f"{one},{other}") == f"chatsrv: --tls: the key in {other} is not that of the certificate\n"
    assert "--tls: the key has a password; " in refusal("--tls", f"{one},{locked}")
    assert refusal("--tls-port", "0") == "chatsrv: --tls-port needs --tls\n"
    weak = str(tmp_path / "weak.pem")
    new_key = "-newkey", "rsa:512", "-nodes", "-keyout", weak
    subprocess.run(["openssl", "req", "-x509", *new_key, "-subj", "/CN=x", "-out", f"{weak}.cert"],
                   check=True, stderr=subprocess.DEVNULL, timeout=15)  # fmt: skip
    Path(weak).write_text(Path(weak).read_text() + Path(f"{weak}.cert").read_text())
    assert refusal("--tls", weak) == f"chatsrv: --tls: OpenSSL does not accept {weak}: ee key too small\n"


def test_one_port_cannot_be_plain_and_speak_tls(authority: Authority) -> None:
    """With --share-port, the system would let each connection have one or the other."""
    port = str(free_port())
    command = [sys.executable, str(ROOT / "chatsrv"), "--port", port, "--tls", authority.issue(), "--tls-port", port]
    for flags in [], ["--share-port"]:
        done = subprocess.run([*command, *flags], capture_output=True, text=True, timeout=PATIENCE)
        assert (done.returncode, done.stdout) == (2 if flags else 1, "")
    assert "chatsrv: --port, --tls-port and --web cannot share a port with each other\n" in done.stderr


def test_a_port_at_all_addresses_and_the_same_at_one_are_one_port() -> None:
    pytest.importorskip("websockets")
    port = str(free_port())
    command = [sys.executable, str(ROOT / "chatsrv"), "--port", port, "--web", f"{HERE}:{port}", "--share-port"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout) == (2, "")
    assert "chatsrv: --port, --tls-port and --web cannot share a port with each other\n" in done.stderr


# What people have.


@pytest.fixture
def program(request: pytest.FixtureRequest) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    def run(*command: str, text: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        if shutil.which(command[0]) is None:
            pytest.skip(f"{command[0]} is not installed")
        return subprocess.run(command, input=text, capture_output=True, timeout=30)

    return run


@pytest.mark.parametrize(
    "command",
    [
        "ncat --ssl-verify --ssl-trustfile {ca} --ssl-servername localhost 127.0.0.1 {port}",
        "socat - OPENSSL:127.0.0.1:{port},cafile={ca},commonname=localhost",
        "socat - OPENSSL:127.0.0.1:{port},cafile={ca},commonname=localhost,openssl-max-proto-version=TLS1.2",
    ],
)
def test_a_last_message_comes_back_to_one_that_has_only_ended_its_stream(
    secure: Start, authority: Authority, program: Any, command: str
) -> None:
    server = secure()
    done = program(*command.format(ca=authority.file, port=server.port).split(), text=b"one\ntwo\n")
    assert done.stdout == GREETING + b"\n" + PREFIX + b"one\n" + PREFIX + b"two\n", done.stderr
    server.terminated("end of stream")


@pytest.fixture
def s_client(program: Any) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts `openssl s_client`; write() to its stdin reaches it as one line."""
    program("openssl", "version")
    started = []

    def start(*flags: str) -> subprocess.Popen[bytes]:
        command = ["openssl", "s_client", *flags]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, bufsize=0, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT))
        return started[-1]

    yield start
    for client in started:
        client.kill()
        client.communicate()


@pytest.mark.parametrize("order", [b"K\n", b"k\n"])
def test_keys_may_change(secure: Start, authority: Authority, s_client: Any, order: bytes) -> None:
    """s_client's k changes its own, and K asks for new ones on our side."""
    server = secure()
    other = enter(server, authority)
    client = s_client("-tls1_3", "-CAfile", authority.file, "-connect", f"{HERE}:{server.port}")
    server.accepted(2)
    for text in b"before\n", order, b"after\n":
        client.stdin.write(text)
        if text == order:
            while b"KEYUPDATE" not in client.stdout.readline():
                pass
        else:
            other.expect(PREFIX + text[:-1])
            while PREFIX + text != client.stdout.readline():
                pass


class OneWay:
    """Stands between a client and the server: all goes on to the server, and nothing comes back once it is `closed`."""

    def __init__(self, port: int) -> None:
        with socket.create_server((HERE, 0)) as listener:
            self.port = listener.getsockname()[1]
            self.server = socket.socket()
            self.server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
            self.server.connect((HERE, port))
            self.listener = listener.dup()
        self.name = "{}:{}".format(*self.server.getsockname())
        self.client: socket.socket | None = None
        self.closed = False

    def accept(self) -> None:
        self.client, _ = self.listener.accept()
        for sock in self.client, self.server:
            sock.setblocking(False)

    def pass_on(self) -> None:
        assert self.client
        for source, target in ((self.client, self.server), (self.server, self.client))[: 1 if self.closed else 2]:
            try:
                target.sendall(source.recv(1 << 16))
            except (BlockingIOError, ConnectionError):
                pass

    def close(self) -> None:
        for sock in filter(None, (self.client, self.server, self.listener)):
            sock.close()


def test_one_that_asks_for_new_keys_and_does_not_read_is_sent_away(
    authority: Authority, s_client: Any, tmp_path: Path
) -> None:
    def tick() -> Any:
        while True:
            yield from sleep(0.001)

    here = House(Kernel(), Timeless(), tmp_path / "journal", chat, Options(), Certificate(authority.issue()).wire)
    here.kernel.spawn(tick())
    between = OneWay(here.boxed.getsockname()[1])
    client = s_client("-tls1_3", "-CAfile", authority.file, "-connect", f"{HERE}:{between.port}")
    between.accept()

    def member() -> Any:
        between.pass_on()
        return here.server.hub.first.members

    here.until(member)
    wire = here.server.hub.first.members[0].wire
    between.closed = True
    kept = []
    for _ in range(3000):
        client.stdin.write(b"K\n")
        while b"KEYUPDATE" not in client.stdout.readline():
            pass
        between.pass_on()
        here.kernel.turn()
        kept.append(len(wire.kept) + wire.outgoing.pending)
        if wire.failure:
            break
    assert max(kept) < 2 * RECORD
    between.close()
    end = f"{between.name} connection terminated: it asks for new keys, and does not read\n"
    here.until(lambda: end in here.path.read_text())
    here.close()


def test_nothing_is_negotiated_anew(secure: Start, authority: Authority, s_client: Any) -> None:
    """s_client's R asks for a new handshake, and it does not go on without."""
    server = secure()
    other = enter(server, authority)
    client = s_client("-tls1_2", "-CAfile", authority.file, "-connect", f"{HERE}:{server.port}")
    server.accepted(2)
    client.stdin.write(b"before\n")
    other.expect(PREFIX + b"before")
    while client.stdout.readline() != PREFIX + b"before\n":
        pass
    client.stdin.write(b"R\n")
    server.terminated()
    assert b"no renegotiation" in client.stdout.read()
    other.say("hello")
    other.expect(PREFIX + b"hello")


def test_it_is_told_which_port_speaks_tls(chatsrv: Start, authority: Authority) -> None:
    server, port = plain_beside(chatsrv, authority, "--host", HERE)
    assert server.journal and server.journal.lines("listens") == [
        f"chatsrv at {HERE}, for this machine only, listens on port {server.port}",
        f"chatsrv at {HERE}, for this machine only, with TLS, listens on port {port}",
    ]
    eventually(server.answers)


def test_of_the_sockets_that_are_handed_over_one_can_speak_tls(authority: Authority) -> None:
    with socket.create_server((HERE, 0)) as plain, socket.create_server((HERE, 0)) as secure:
        port = secure.getsockname()[1]
        fds = [os.dup2(sock.fileno(), 100 + n) for n, sock in enumerate((plain, secure))]  # far from 3 and 4
        hand_over = (
            "import os, sys; os.dup2(100, 3); os.dup2(101, 4); os.environ.update(LISTEN_FDS='2', "
            "LISTEN_PID=str(os.getpid())); os.execvp(sys.argv[1], sys.argv[1:])"
        )
        server = Chatsrv(
            "--tls", authority.issue(), "--tls-port", str(port), through=[sys.executable, "-c", hand_over], pass_fds=fds
        )
        for fd in fds:
            os.close(fd)
        try:
            assert server.port == plain.getsockname()[1]
            first = server.client()
            server.port = port
            enter(server, authority).say("hello")
            first.expect(PREFIX + b"hello")
            for client in server.clients:
                client.close()
            assert server.end() == 0
        finally:
            server.destroy()


def test_nothing_readable_is_left_within_when_words_come_with_the_handshake(house: Build, authority: Authority) -> None:
    here = house(wire=Certificate(authority.issue()).wire)
    peer = here.peer()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = authority.client().wrap_bio(incoming, outgoing, server_hostname="localhost")

    def shaken() -> bool:
        peer.read()
        incoming.write(peer.raw)
        peer.raw = b""
        try:
            client.do_handshake()
            return True
        except ssl.SSLWantReadError:
            peer.sock.send(outgoing.read())
            return False

    peer.shook = False
    here.until(shaken)
    client.write(b"early\n")
    peer.sock.send(outgoing.read())  # the end of the handshake, and the first message
    heard = b""

    def complete() -> bool:
        nonlocal heard
        peer.read()
        incoming.write(peer.raw)
        peer.raw = b""
        try:
            heard += client.read(1 << 14)
        except ssl.SSLWantReadError:
            pass
        return heard == GREETING + b"\nearly\n"

    here.until(complete)
