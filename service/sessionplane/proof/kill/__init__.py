"""The server is killed, again and again, while clients of all kinds are at work; then everything is judged.

`play` is the stage: a real server process over a real file, and the moments at which it is killed. `world` is what its
clients have in common, `callers`, `runners` and `subscribers` are they, and `part` makes a part of the self-test of it.
"""
