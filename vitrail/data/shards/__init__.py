"""Images made small, encoded anew and written as shards."""
