"""What is wrong with data: unreadable, odd, duplicated, leaking, conflicting."""
