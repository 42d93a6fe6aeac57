"""What people see in the terminal, made of plain records."""
