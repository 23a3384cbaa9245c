"""How a server becomes a node, at its start."""

from __future__ import annotations

from .address import Address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from loop import Kernel
    from loop.traps import Coroutine

    from ..room import Hub


class Ended(Exception):
    """The server was told to end before it was a node."""


def join(kernel: Kernel, hub: Hub, address: Address, wait: bool = False) -> None:
    """Make the hub's server a node, before anything else runs on the kernel.

    `wait` (--cluster-wait): go on even if Redis cannot be reached yet. Raises ValueError, with a line for the user, and
    Ended if kernel.stop() was called meanwhile.
    """
    try:
        from .node import Cluster
        from .wire import PASSING, TROUBLE, describe
    except ImportError:
        raise ValueError("--cluster needs hiredis: pip install 'hiredis>=3'") from None
    cluster = Cluster(kernel, hub, address)
    trouble: list[BaseException] = []

    def first() -> Coroutine[None]:
        try:
            yield from cluster.open()
        except TROUBLE as error:
            trouble.append(error)

    task = kernel.spawn(first(), "cluster")
    kernel.run(until=task)
    if task.outcome is None:
        raise Ended(f"--cluster {address}: ended by a signal before Redis has answered")
    if not trouble:
        cluster.links.say(f"connected to {address} as node {cluster.node[:8]}")
    elif wait and isinstance(trouble[0], PASSING):
        cluster.reason = describe(trouble[0])
        cluster.links.say(f"waits for {address} as node {cluster.node[:8]}: {cluster.reason}")
    else:
        raise ValueError(f"--cluster {address}: {describe(trouble[0])}")
    hub.cluster = cluster
