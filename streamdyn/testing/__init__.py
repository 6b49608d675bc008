"""For those who write parts: streams with a known truth, and the contract checks."""
