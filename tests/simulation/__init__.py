"""A world of its own for the server: a seed decides what happens in it, the server in it is the real one.

Every fifth seed is that of a cluster: several servers, and a simulated Redis.

Clock, poller, sockets and stdout are stand-ins; kernel, server, member, feed, handlers and journal are the production
code as it is. What is random comes from the seed, so that a run can be repeated exactly, with its history.

Read in this order: world (time, descriptors, readiness), network (sockets, listeners, stdout), clients (who talks and
what goes wrong), ends and browsers (what TLS and browsers make of what they say), strangers (who comes to their ports
by mistake), wires (the same on the server's side), reference (what framing should do, written to be obviously right),
oracle (what must be true whatever happens), run (one seed, or many). A cluster also has lines and redis (sockets, and
what is behind them), shared (what its nodes share, and books of what they read there), and accidents.

    PYTHONPATH=.:tests python -m simulation --seeds 10000
    PYTHONPATH=.:tests python -m simulation --seed 123
"""
