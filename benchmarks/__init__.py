"""What a delivery costs: this library beside others, in one run on one machine. See README.md."""
