"""The crash loop: a small run of each job fails at its Nth file operation, for every N; then the same command again."""
