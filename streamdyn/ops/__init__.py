"""Operating a stream job: metrics, health, status, commands."""
