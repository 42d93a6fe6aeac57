"""What people see in the terminal, made from plain records."""
