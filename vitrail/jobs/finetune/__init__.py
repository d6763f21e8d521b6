"""Fine-tuning: the sweep, its plan, its runs."""
