"""What callers feel, and what stays true, while processes of the service are killed, stopped or silent."""
