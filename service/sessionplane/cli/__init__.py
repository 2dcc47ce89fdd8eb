"""The command line. Importing a command must stay cheap: gRPC, the server and rich are loaded inside them.

`root` has the group and the exit codes, `calls` the way to a server and what its refusals look like here,
`show` turns messages into text. A command does one thing that the client or the server can do; it decides
nothing by itself.
"""
