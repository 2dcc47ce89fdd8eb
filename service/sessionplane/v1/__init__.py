"""Generated from protos/ by `make proto`. Never edit it."""
