"""The evidence: what shows that the promises of docs/promises.md hold, on whatever machine it runs.

It ships with the service, so that any visitor can ask for it. It sees the service as its users do, through the wire and
the client, and reads the file in the end; nothing of the service may know of it.
"""
