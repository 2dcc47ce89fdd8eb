"""Judging a recording: what clients called and saw, held against the promises and against what the file has in the end.

`records` is the recording, `facts` reads it once for all, each module of `promises` says where one promise was broken,
and `judge` asks them all.
"""
