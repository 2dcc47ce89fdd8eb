"""The liveness bounds of docs/promises.md, measured: how soon, not whether.

Everything is measured from outside, by the Python client and stock stubs on the same machine as the server, so a
figure has the client's share in it. What is bounded and what rated load is stands in `bounds`; the rest is one module
for each kind of measurement. A bound that is missed is a figure like any other; only what must never happen, such as
an event that does not come at all, is an error.
"""
