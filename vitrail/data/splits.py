"""Which splits a DATA has, for what takes all of them."""
