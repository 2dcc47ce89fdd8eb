"""The product as a gRPC service: translation only. No rule of the product lives here."""
