"""What every engine process runs around its model: sockets, lease, control wire, logs, and how it ends."""
