"""What messages say: events, and the decoding of messages. Pure."""
