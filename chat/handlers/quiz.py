"""A quiz, under nicknames: the first to say the answer gets a point. There are ten seconds for each question."""

from __future__ import annotations

from random import choice

from loop import TimedOut, WaitQueue, sleep

from . import nick

TYPE_CHECKING = False
if TYPE_CHECKING:
    from loop import Task
    from loop.traps import Coroutine

    class Member(nick.Member):
        points: int

    class Room(nick.Room):
        game: Task
        answer: str  # the answer to the question; "" while there is no question
        answered: WaitQueue  # the game waits here for somebody to say the answer


SECONDS = 10  # for each question
PAUSE = 3  # seconds before each question
QUESTIONS = {
    "What is 7 times 8?": "56",
    "How many bytes are a KiB?": "1024",
    "Which planet is nearest to the sun?": "Mercury",
    "What is the capital of Australia?": "Canberra",
    "Which metal is liquid at room temperature?": "mercury",
    "How many sides has a hexagon?": "6",
    "In which year did a human first walk on the moon?": "1969",
    "What is the square root of 144?": "12",
    "Which language is this program written in?": "Python",
    "Which element has the symbol Fe?": "iron",
}


def quiz(member: Member, room: Room) -> Coroutine[None]:
    """COROUTINE. A player. The game itself is a task of its own, which runs as long as there are players."""
    nick.arrive(member, room)
    member.points = 0
    member.tell(f"Welcome to the quiz, {member.nick}. Say the answer, or a command: {nick.COMMANDS}")
    room.announce(f"* {member.nick} is here")
    if len(room.names) == 1:
        room.answer = ""
        room.answered = WaitQueue()
        room.game = room.spawn(game(room), "quiz")
    try:
        while messages := (yield from member.receive()):
            for is_command, message in nick.lines(member, messages):
                if not is_command:
                    room.publish(member, message)
                    judge(member, room, message.decode("utf-8", "replace"))
                elif message == b"/quit":
                    return
                elif not (yield from nick.command(member, room, message)):
                    member.tell(f"* Commands: {nick.COMMANDS}")
    finally:
        nick.free_name(member, room)
        room.announce(f"* {member.nick} is gone")
        if not room.names:
            room.game.cancel()


def game(room: Room) -> Coroutine[None]:
    """COROUTINE. One question after the other, until it is cancelled."""
    while True:
        yield from sleep(PAUSE)
        question, room.answer = choice(list(QUESTIONS.items()))
        room.announce(f"* {question} ({SECONDS} seconds)")
        try:
            yield from room.answered.wait(SECONDS)
        except TimedOut:
            if room.answer:  # otherwise somebody said it in the very turn in which the time ran out
                room.announce(f"* Nobody knew: {room.answer}")
                room.answer = ""


def judge(member: Member, room: Room, text: str) -> None:
    """If `text` is the answer, give the member a point, and let the game go on."""
    if room.answer and text.strip().casefold() == room.answer.casefold():
        member.points += 1
        best = sorted(room.members, key=lambda one: -one.points)[:5]
        room.announce(f"* Right, {member.nick}! " + ", ".join(f"{one.nick} {one.points}" for one in best))
        room.answer = ""
        room.answered.wake()
