"""The use cases: each one function of a transaction, a request and a context.

Nothing else may change durable state. A use case reads rows through its transaction, asks the domain what to
do, writes rows and events, and returns a value; what it raises leaves nothing behind.
"""
