"""What a user types and imports: the client, the command, the local stack."""
