"""One module per promise, under its name: each yields a sentence for every way in which a history breaks it."""
