"""How any study is planned, run and read."""
