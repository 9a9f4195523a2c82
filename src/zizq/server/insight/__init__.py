"""What the server tells of itself: begin with `service.py`. Reads, and changes nothing but the file of its history."""
