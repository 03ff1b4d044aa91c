"""What hypernetworks are compared with: one network for all stream tasks, and ways to keep what it knew."""
