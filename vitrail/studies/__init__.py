"""The paper's studies: lists of runs, and what they show."""
