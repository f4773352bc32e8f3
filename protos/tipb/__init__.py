"""tipb-compatible definitions: coprocessor plans, expressions and their answers."""
