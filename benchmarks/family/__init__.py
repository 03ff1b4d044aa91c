"""What the methods of the family cost, and how fast they train beside libraries of the field."""
