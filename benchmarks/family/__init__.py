"""The cost of the few-shot methods, and the speed of their training compared with libraries of the field."""
