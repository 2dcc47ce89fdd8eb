"""The rules: pure and synchronous. No I/O, no clock, no ids minted, no logging.

Whatever time or id a rule needs comes in as an argument, so that every rule can be asked
the same question twice and give the same answer.
"""
