"""The machine: its devices, who else is at work on them, whose turn it is, and what it is made of."""
