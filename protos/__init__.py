"""The wire: kvproto- and tipb-compatible definitions and the modules generated from them (`make protos`)."""
