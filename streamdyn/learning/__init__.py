"""How readers learn: batches, the trainer, what a reading is worth, and alarms for collapses."""
