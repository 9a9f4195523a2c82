"""The client library; start reading at `calls`, which has every API call once, without any I/O."""
