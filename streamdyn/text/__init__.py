"""Reading text: words with true offsets, readers that skip, and what a reading cost."""
